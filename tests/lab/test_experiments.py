"""Arms are honest: one change each, a same-mask control beside every window, equal sizes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.errors import UserError
from resonant.functional import mechanism
from resonant.lab.compare.plan import make_plan
from resonant.lab.domains import EXPERIMENTS, read_run
from resonant.lab.kit.config import (
    RunConfig,
    config_hash,
    differences,
    plain,
    replaced,
)
from resonant.lab.kit.experiment import MECHANISM, Experiment
from resonant.lab.kit.plugins import import_plugins
from resonant.models.architectures import build_model
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig
from resonant.models.phase_configs import PhaseLanguageModelConfig
from resonant.models.pixel_configs import pixels_cifar, pixels_mnist
from resonant.models.vision_configs import vision_cifar_s, vision_imagenet_s

FRAMES = ("align", "speech", "speech-full")
ADAPTED = [name for name in EXPERIMENTS if "-lora" in name]  # tests/lab/adapters/test_task.py
PROBES = ("probes", "phase-probes")
LANGUAGE = [name for name in EXPERIMENTS if name not in (*FRAMES, *ADAPTED, *PROBES)]
SEVERAL = ["stdlib", "shakespeare", "enwik8"]  # with architectures beside the transformer


@pytest.fixture(params=EXPERIMENTS)
def any_experiment(request: pytest.FixtureRequest) -> Experiment:
    return EXPERIMENTS[request.param]


@pytest.fixture(params=LANGUAGE)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    """One whose arms are models of tokens or pictures, with the modules it brings."""
    import_plugins(EXPERIMENTS[request.param].base.plugins)
    return EXPERIMENTS[request.param]


@pytest.fixture(params=SEVERAL)
def mixed_experiment(request: pytest.FixtureRequest) -> Experiment:
    """One with phase models beside transformers."""
    return EXPERIMENTS[request.param]


def attention_of(config: RunConfig) -> AttentionConfig:
    attention = getattr(config.model, "attention", None)
    assert isinstance(attention, AttentionConfig)
    return attention


def built(config: Any) -> torch.nn.Module:
    """The model of a configuration, without numbers."""
    with torch.device("meta"):
        return build_model(config)


def sight(config: RunConfig) -> tuple[Any, ...]:
    """Whom an arm sees, top-k apart: its window, or its radius and metric."""
    attention = plain(config)
    names = ("window", "radius", "metric")
    return tuple(attention.get(f"model.attention.{name}") for name in names)


def test_each_arm_differs_from_its_control_in_one_thing(any_experiment: Experiment) -> None:
    experiment = any_experiment
    configs = {
        arm.name: dataclasses.asdict(experiment.config(experiment.base, arm, 0, {}))
        for arm in experiment.arms
    }
    for arm in experiment.arms:
        if arm.control is None:
            assert not arm.changes or experiment.scores  # one ability's data, as in probes
            continue
        changed = {name for name, *_ in differences(configs[arm.control], configs[arm.name])}
        changed -= {"arm"}
        if arm.model is None:
            assert changed == set(arm.changes)
            assert len(arm.changes) == 1
        else:  # another model of the same size, at a rate of the same sweep
            assert not arm.changes
            changed -= {"training.learning_rate"}
            assert all(n.startswith("model.") for n in changed)
            same = "model.phase_gate" in changed and len(changed) == 2  # and the drive's width
            mechanism = {"model.attention.mechanism"}
            start = {"model.attention.scalars", "model.attention.scalars.sigma"}  # is its own
            same |= mechanism <= changed <= mechanism | {"model.hidden"} | start
            same |= changed == {"model.attention.listen", "model.hidden"}
            same |= changed == mechanism | {"model.attention.place"}
            same |= changed in ({"model.attention.first"}, {"model.attention.layers"})
            waves = {"model.position.oscillators", "model.embedding_start", "model.gate_start"}
            same |= changed == {"model.key_gate", "model.hidden"}
            trial = {"model.score_block"}, {"model.steps"}, {"model.attention.gate", "model.hidden"}
            trial += {"model.position.base"}, {"model.position.kind"}
            same |= changed in (*trial, {"model.embedding_start", "model.gate_start"})
            threshold = {"model.self_score", "model.hidden"}
            parts = (waves, threshold, {"model.successors"}, {"model.kernel"})
            parts = [each for each in parts if each <= changed]
            same |= changed == set().union(*parts)
            assert same or "model.architecture" in changed


def test_every_window_has_a_softmax_with_the_same_mask(experiment: Experiment) -> None:
    configs = [experiment.config(experiment.base, arm, 0, {}) for arm in experiment.arms]
    seen = {sight(config) for config in configs}
    plainly = [config for config in configs if plain(config)[MECHANISM] == "softmax"]
    assert {sight(config) for config in plainly} == seen


def test_arms_have_equal_parameters_but_for_what_they_are_about(experiment: Experiment) -> None:
    sizes: dict[str, set[int]] = {}
    for arm in experiment.arms:
        config = experiment.config(experiment.base, arm, 0, {})
        named = built(config.model).named_parameters()
        about = (".scalars.", ".gate.", ".gate_proj.", ".metric.", "position.")
        size = sum(p.numel() for n, p in named if not any(part in n for part in about))
        if arm.model is None or arm.name == "kuramoto":  # others: the test below
            sizes.setdefault(config.model.architecture, set()).add(size)
    assert {len(each) for each in sizes.values()} == {1}
    own = {experiment.base.model.architecture}
    assert set(sizes) == own | ({"phase"} if experiment.name in SEVERAL else set())


def test_a_model_of_its_own_has_the_same_size(mixed_experiment: Experiment) -> None:
    experiment = mixed_experiment
    sizes = {}
    own = {arm.name for arm in experiment.arms if arm.model}
    assert own >= {"kuramoto", "kuramoto-static"}
    for name in ("softmax", *own):
        config = experiment.config(experiment.base, experiment.arm(name), 0, {}).model
        sizes[name] = sum(p.numel() for p in built(config).parameters())
    assert all(abs(size / sizes["softmax"] - 1) < 0.01 for size in sizes.values())


def test_what_arms_are_about_is_a_small_share_of_their_parameters(experiment: Experiment) -> None:
    sizes = {}
    for arm in experiment.arms:
        model = built(experiment.config(experiment.base, arm, 0, {}).model)
        sizes[arm.name] = sum(p.numel() for p in model.parameters())
    for arm in experiment.arms:
        if arm.control is not None:
            assert abs(sizes[arm.name] / sizes[arm.control] - 1) < 0.08


def test_a_user_s_field_reaches_arms_that_have_it_in_a_model_of_their_own() -> None:
    """What one arm changes and another carries in its model is the user's in both."""
    experiment = EXPERIMENTS["shakespeare"]
    overrides = {"model.position.oscillators": 4, "model.position.base": 500.0}
    found = {}
    for arm in experiment.arms:
        model = experiment.config(experiment.base, arm, 0, overrides).model
        assert isinstance(model, (LanguageModelConfig, PhaseLanguageModelConfig))
        found[arm.name] = model.position.oscillators
        assert model.position.base == 500.0
    waves = {name for name, count in found.items() if count == 4}
    assert waves == {name for name in found if "oscillators" in name}
    assert {count for name, count in found.items() if name not in waves} == {0}


def test_a_user_s_field_reaches_the_arms_that_have_it() -> None:
    experiment = EXPERIMENTS["stdlib"]
    overrides = {"model.attention.window": 9, "training.steps": 7}
    windows = {}
    for arm in experiment.arms:
        config = experiment.config(experiment.base, arm, 0, overrides)
        windows[arm.name] = attention_of(config).window
        assert config.training.steps == 7
    local = {name for name in windows if "window" in name}
    assert {windows[name] for name in local} == {9}
    assert {windows[name] for name in set(windows) - local} == {None}


def test_starts_of_scalars_go_to_the_arms_that_have_them() -> None:
    experiment = EXPERIMENTS["stdlib"]
    overrides = {"model.attention.scalars": {"sigma": 4.0}}
    for arm in experiment.arms:
        attention = attention_of(experiment.config(experiment.base, arm, 0, overrides))
        assert attention.scalars == ({"sigma": 4.0} if attention.mechanism == "krause" else {})


def test_configurations_go_through_plain_values_and_have_a_hash(
    any_experiment: Experiment,
) -> None:
    experiment = any_experiment
    config = experiment.config(experiment.base, experiment.arms[-1], 2, {})
    again = read_run(dataclasses.asdict(config))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert config_hash(replaced(config, {"training.clip": 2.0})) != config_hash(config)
    with pytest.raises(ValueError, match="RunConfig has no field 'sed'; did you mean 'seed'"):
        read_run(dataclasses.asdict(config) | {"sed": 1})


def demo_arms() -> list[str]:
    makefile = Path(__file__).parents[2] / "Makefile"
    line = next(x for x in makefile.read_text().splitlines() if x.startswith("DEMO_ARMS"))
    return line.split(":=")[1].strip().split(",")


def test_the_demo_is_the_size_it_claims_and_can_fail() -> None:
    demo = EXPERIMENTS["stdlib"]
    assert {arm: demo.ceilings.get(arm, demo.ceilings["*"]) for arm in demo_arms()} == {
        "softmax": 1.9,
        "softmax-gate": 2.1,
        "softmax-window": 2.1,
        "krause-window": 2.1,
        "kuramoto": 2.1,
    }
    assert demo.seeds == 3
    assert isinstance(demo.base.model, LanguageModelConfig)
    assert (demo.base.model.layers, demo.base.model.width) == (2, 64)
    assert (demo.base.training.batch_size, demo.base.training.context) == (16, 128)


def planned(arms: list[str], **overrides: object) -> list[RunConfig]:
    options = {name.replace("__", "."): value for name, value in overrides.items()}
    plan = make_plan(
        EXPERIMENTS["stdlib"],
        EXPERIMENTS["stdlib"].base,
        arms=arms,
        seeds=[0],
        out=Path("nowhere"),
        data_dir=None,
        overrides=options,
    )
    return list(plan.runs)


@pytest.mark.parametrize(
    ("arms", "option", "value"),
    [
        (["softmax", "krause-window"], "model__attention__gate", "energy"),
        (["softmax"], "model__attention__window", 8),
        (["softmax", "softmax-gate"], "model__position__kind", "sinusoidal"),
        (["softmax", "softmax-gate"], "model__attention__scalars", {"sigma": 3.0}),
    ],
)
def test_an_option_that_changes_no_arm_is_refused(
    arms: list[str], option: str, value: object
) -> None:
    with pytest.raises(
        UserError, match=f"--{option.replace('__', '.')} changes none of these arms"
    ):
        planned(arms, **{option: value})


def test_an_option_that_makes_an_arm_its_control_is_refused() -> None:
    with pytest.raises(UserError, match="softmax-morlet is the same as its control softmax-lea"):
        planned(["softmax-learned", "softmax-morlet"], model__position__kind="sinusoidal")
    runs = planned(["softmax", "softmax-gate"], model__attention__standardize="none")
    assert {attention_of(run).standardize for run in runs} == {"none"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model__attention__standardize", "none"),
        ("model__position__locality", 8.0),
        ("model__position__max_length", 256),
    ],
)
def test_an_option_about_what_no_arm_has_is_refused(option: str, value: object) -> None:
    with pytest.raises(UserError, match=r"is read with .* only, which none of these arms has"):
        planned(["softmax", "softmax-window"], **{option: value})


def test_more_context_than_learned_positions_is_refused() -> None:
    with pytest.raises(UserError, match=r"pass --model\.position\.max_length 256"):
        planned(["softmax-learned"], training__context=256)


def test_one_arm_alone_takes_any_field() -> None:
    for arm in EXPERIMENTS["stdlib"].arms:
        alone = EXPERIMENTS["stdlib"].alone(arm.name)
        plain = EXPERIMENTS["stdlib"].config(alone.base, arm, 0, {})
        assert alone.config(alone.base, alone.arms[0], 0, {}) == plain
    softmax = EXPERIMENTS["stdlib"].alone("softmax")
    options = {"model.attention.mechanism": "krause", "model.attention.gate": "energy"}
    config = softmax.config(softmax.base, softmax.arms[0], 0, options)
    assert attention_of(config).mechanism == "krause"
    assert attention_of(config).gate == "energy"


def test_fields_of_the_phase_model_reach_the_arms_that_have_it() -> None:
    overrides = {"model__manifold": "sphere-4", "model__layers": 3}
    runs = {
        run.arm: run for run in planned(["softmax", "kuramoto", "kuramoto-static"], **overrides)
    }
    assert {plain(run)["model.layers"] for run in runs.values()} == {3}
    for name in ("kuramoto", "kuramoto-static"):
        model = runs[name].model
        assert isinstance(model, PhaseLanguageModelConfig)
        assert model.manifold == "sphere-4"
        assert model.phase_gate == ("static" if name == "kuramoto-static" else "content")
    with pytest.raises(UserError, match=r"--model\.manifold changes none of these arms: softmax"):
        planned(["softmax", "softmax-gate"], model__manifold="sphere-4")
    with pytest.raises(UserError, match=r"--model\.key_value_heads changes none"):
        planned(["kuramoto"], model__key_value_heads=2)


def test_the_phase_model_refuses_what_it_cannot_be() -> None:
    alone = EXPERIMENTS["stdlib"].alone("kuramoto")

    def plan(**overrides: object) -> None:
        options = {name.replace("__", "."): value for name, value in overrides.items()}
        where: dict[str, Any] = {"arms": ["kuramoto"], "seeds": [0], "out": Path("nowhere")}
        make_plan(alone, alone.base, **where, data_dir=None, overrides=options)

    with pytest.raises(UserError, match=r"arm 'kuramoto': model\.position\.kind is one of rotary"):
        plan(model__position__kind="sinusoidal")
    with pytest.raises(UserError, match=r"--model\.attention\.mechanism changes none"):
        plan(model__attention__mechanism="krause")
    plan(model__attention__window=16, model__steps=2)


def test_an_arm_s_own_learning_rate_is_inherited_and_gives_way_to_the_user_s(
    mixed_experiment: Experiment,
) -> None:
    experiment = mixed_experiment
    own = experiment.arm("kuramoto").learning_rate
    assert own is not None
    assert experiment.arm("kuramoto-static").learning_rate is None
    for name in ("kuramoto", "kuramoto-static"):
        arm = experiment.arm(name)
        rates = [
            each.config(each.base, each.arm(name), 0, overrides).training.learning_rate
            for each in (experiment, experiment.alone(arm.name))
            for overrides in ({}, {"training.learning_rate": 0.3})
        ]
        assert rates == [own, 0.3, own, 0.3]


def test_an_unknown_architecture_is_refused() -> None:
    values = dataclasses.asdict(EXPERIMENTS["stdlib"].base)
    with pytest.raises(
        ValueError, match="no architecture is called 'phases'; did you mean 'phase'"
    ):
        read_run(values | {"model": {"architecture": "phases"}})
    with pytest.raises(ValueError, match="no data is called 'texts'"):
        read_run(values | {"data": {"name": "texts"}})
    with pytest.raises(ValueError, match="no named fields under 'data'"):
        read_run({"model": values["model"]})


@pytest.mark.parametrize(
    ("name", "arm", "preset", "sigma"),
    [
        ("cifar10-published", "krause-grid-topk", vision_cifar_s(), 2.5),
        ("imagenet-published", "krause-grid-topk", vision_imagenet_s(), 4.5),
        ("mnist-pixels-published", "krause-window-topk", pixels_mnist(), 2.5),
        ("cifar10-pixels-published", "krause-window-topk", pixels_cifar(), 2.5),
    ],
)
def test_published_arms_are_the_published_models(
    name: str, arm: str, preset: Any, sigma: float
) -> None:
    """In all but the dropout of weights, and sigma starts there."""
    experiment = EXPERIMENTS[name]
    model: Any = experiment.config(experiment.base, experiment.arm(arm), 0, {}).model
    start = model.attention.scalars.get("sigma", mechanism("krause").scalars["sigma"].start)
    assert start == preset.attention.scalars["sigma"] == sigma
    ours, theirs = (
        dataclasses.replace(m.attention, dropout=0.0, scalars={}) for m in (model, preset)
    )
    assert ours == theirs
    assert dataclasses.replace(model, attention=preset.attention) == preset


def test_swin_starts_with_the_published_sigma() -> None:
    experiment = EXPERIMENTS["swin-published"]
    model: Any = experiment.config(experiment.base, experiment.arm("krause"), 0, {}).model
    assert model.attention.scalars == {"sigma": 4.0}
    assert model.window == 4
