"""The experiment on alignment: equal sizes, fair controls, options that are read or refused."""

import dataclasses
from pathlib import Path

import pytest
import torch

from resonant.errors import UserError
from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.compare.plan import make_plan
from resonant.lab.domains import EXPERIMENTS, build_task, read_run
from resonant.lab.kit.config import RunConfig
from resonant.lab.text.config import TextConfig
from resonant.models.fields import from_dict
from resonant.models.frame_configs import FrameTransformerConfig
from resonant.models.frames import FrameTransformer
from resonant.nn import ClockAttention, MixtureAttention

ALIGN = EXPERIMENTS["align"]


def model_of(name: str) -> FrameTransformerConfig:
    config = ALIGN.config(ALIGN.base, ALIGN.arm(name), 0, {}).model
    assert isinstance(config, FrameTransformerConfig)
    return config


def planned(arms: list[str], **overrides: object) -> list[RunConfig]:
    options = {name.replace("__", "."): value for name, value in overrides.items()}
    where = {"arms": arms, "seeds": [0], "out": Path("nowhere"), "data_dir": None}
    return list(make_plan(ALIGN, ALIGN.base, **where, overrides=options).runs)  # type: ignore[arg-type]


def test_all_arms_have_one_size() -> None:
    sizes = {}
    for arm in ALIGN.arms:
        with torch.device("meta"):
            sizes[arm.name] = sum(
                p.numel() for p in FrameTransformer(model_of(arm.name)).parameters()
            )
    for arm in ALIGN.arms:
        against = sizes[arm.control or "softmax"]
        assert abs(sizes[arm.name] / against - 1) < 0.01, arm.name


def test_every_kind_of_cross_attention_has_an_arm() -> None:
    kinds = {}
    for arm in ALIGN.arms:
        model = FrameTransformer(model_of(arm.name))
        cross = model.blocks[0].cross
        kinds[arm.name] = cross
        assert model.parallel != arm.name.startswith("next-")
        if isinstance(cross, ClockAttention):
            assert cross.normalized == model.parallel
    scores = {n: c.score for n, c in kinds.items() if isinstance(c, ClockAttention)}
    assert set(scores.values()) == {"frozen", "density", "interval"}
    assert scores["clock-interval"] == scores["next-clock-interval"] == "interval"
    assert {n for n, c in kinds.items() if isinstance(c, MixtureAttention)} == {
        "mixture",
        "next-mixture",
    }
    guides = [model_of(f"softmax-guided{each}").attention.guide for each in ("", "-10", "-50")]
    assert guides == [1.0, 10.0, 50.0]


def test_further_pairs_are_arms_of_one_decoding() -> None:
    for ours, theirs in ALIGN.compared:
        if ours.startswith("next-"):
            assert theirs.startswith("next-")
            continue
        assert ALIGN.arm(theirs).control == "softmax"
        assert model_of(ours).decoding == model_of(theirs).decoding


def test_controls_stand_among_arms_of_their_own_decoding() -> None:
    for arm in ALIGN.arms:
        if arm.control is not None:
            assert model_of(arm.name).decoding == model_of(arm.control).decoding


@pytest.mark.parametrize(
    ("arms", "option", "value", "says"),
    [
        (["softmax"], "training__context", 64, "is read by none of these arms; utterances have"),
        (["softmax"], "training__sample_tokens", 9, "is read by none of these arms; nothing is"),
        (["softmax"], "model__attention__measure", True, "mechanism = clock only, which none"),
        (["softmax", "clock"], "model__attention__components", 5, "= gaussian-mixture only"),
        (["softmax", "clock"], "model__symbols_per_frame", 0.3, "autoregressive clocks only"),
        (["next-softmax"], "model__symbols_per_frame", 0.3, "autoregressive clocks only"),
        (["mixture"], "model__symbols_per_frame", 0.3, None),
        (["next-clock"], "model__symbols_per_frame", 0.3, None),
        (["softmax", "clock"], "model__attention__mechanism", "clock", "what these arms are about"),
        (["clock"], "model__attention__scalars", {"floor": -1.0}, "scalars.floor must be above 0"),
        (["softmax"], "model__attention__guide", 2.0, "changes none of these arms: softmax"),
        (["next-softmax"], "model__decoding", "parallel", None),
        (["softmax"], "data__jitter", 0.0, None),
    ],
)
def test_options_are_read_or_refused(
    arms: list[str], option: str, value: object, says: str | None
) -> None:
    if says is None:
        for run in planned(arms, **{option: value}):
            name = option.split("__")
            assert dataclasses.asdict(run)[name[0]][name[1]] == value
        return
    with pytest.raises(UserError, match=says):
        planned(arms, **{option: value})


def test_models_and_data_must_fit() -> None:
    config = ALIGN.config(ALIGN.base, ALIGN.arms[0], 0, {})
    with pytest.raises(UserError, match="architecture frames cannot be trained on 'stdlib'"):
        build_task(dataclasses.replace(config, data=TextConfig()), None)
    other = dataclasses.replace(config, data=SymbolsConfig(features=7))
    with pytest.raises(UserError, match=r"features = 7, the model 20; pass --model\.features 7"):
        build_task(other, None)


def test_data_come_back_from_plain_values_by_their_name() -> None:
    values = dataclasses.asdict(ALIGN.config(ALIGN.base, ALIGN.arms[0], 0, {}))
    assert isinstance(read_run(values).data, SymbolsConfig)
    with pytest.raises(ValueError, match="no data is called 'letters'"):
        read_run(values | {"data": {"name": "letters"}})
    for wrong, says in (
        ({"jitter": -1.0}, "data.jitter must not be negative; it is -1"),
        ({"longest": 3}, "data.longest must not be below data.shortest"),
        ({"vocabulary": 0}, "data.vocabulary must be at least 1; it is 0"),
    ):
        with pytest.raises(ValueError, match=says):
            read_run(values | {"data": values["data"] | wrong})


def test_models_refuse_what_they_cannot_be() -> None:
    for wrong, says in (
        ({"position": "learned"}, "model.position is one of sinusoidal, scaled, none"),
        ({"decoding": "autoregressive", "position": "scaled"}, "needs the number of frames"),
        ({"width": 60, "heads": 8}, "must be a multiple of twice model.heads"),
        ({"symbols_per_frame": 0.0}, "model.symbols_per_frame must be above 0"),
        (
            {"attention": {"score": "interval", "measure": True}},
            "leave out model.attention.measure",
        ),
        ({"attention": {"scalars": {"sigma": 1.0}}}, "a name in model.attention.scalars"),
        ({"decoding": "both"}, "model.decoding is one of parallel, autoregressive"),
    ):
        with pytest.raises(ValueError, match=says):
            from_dict(FrameTransformerConfig, wrong)
