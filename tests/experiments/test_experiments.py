"""Arms are honest: one change each, a same-mask control beside every window, equal sizes."""

import dataclasses

import pytest
import torch

from resonant.experiments import EXPERIMENTS, Experiment
from resonant.models.language import LanguageModel
from resonant.training.configs import config_hash, differences, replaced, run_config


@pytest.fixture(params=EXPERIMENTS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return EXPERIMENTS[request.param]


def test_each_arm_differs_from_its_control_in_one_thing(experiment: Experiment) -> None:
    configs = {
        arm.name: dataclasses.asdict(experiment.config(experiment.base, arm, 0, {}))
        for arm in experiment.arms
    }
    for arm in experiment.arms:
        if arm.control is None:
            assert not arm.changes
            continue
        changed = differences(configs[arm.control], configs[arm.name])
        assert [name for name, *_ in changed if name != "arm"] == list(arm.changes)
        assert len(arm.changes) == 1


def test_every_window_has_a_softmax_with_the_same_mask(experiment: Experiment) -> None:
    attentions = [
        experiment.config(experiment.base, arm, 0, {}).model.attention for arm in experiment.arms
    ]
    windows = {a.window for a in attentions}
    assert {a.window for a in attentions if a.mechanism == "softmax"} == windows


def test_arms_have_equal_parameters_but_for_learned_scalars(experiment: Experiment) -> None:
    sizes = []
    for arm in experiment.arms:
        with torch.device("meta"):
            model = LanguageModel(experiment.config(experiment.base, arm, 0, {}).model)
        named = model.named_parameters()
        sizes.append(sum(p.numel() for name, p in named if ".scalars." not in name))
    assert len(set(sizes)) == 1


def test_a_user_s_field_reaches_the_arms_that_have_it() -> None:
    experiment = EXPERIMENTS["stdlib"]
    overrides = {"model.attention.window": 9, "training.steps": 7}
    windows = {}
    for arm in experiment.arms:
        config = experiment.config(experiment.base, arm, 0, overrides)
        windows[arm.name] = config.model.attention.window
        assert config.training.steps == 7
    assert windows.pop("softmax") is None
    assert set(windows.values()) == {9}


def test_starts_of_scalars_go_to_the_arms_that_have_them() -> None:
    experiment = EXPERIMENTS["stdlib"]
    overrides = {"model.attention.scalars": {"sigma": 4.0}}
    for arm in experiment.arms:
        attention = experiment.config(experiment.base, arm, 0, overrides).model.attention
        assert attention.scalars == ({} if attention.mechanism == "softmax" else {"sigma": 4.0})


def test_configurations_go_through_plain_values_and_have_a_hash(experiment: Experiment) -> None:
    config = experiment.config(experiment.base, experiment.arms[-1], 2, {})
    again = run_config(dataclasses.asdict(config))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert config_hash(replaced(config, {"training.clip": 2.0})) != config_hash(config)
    with pytest.raises(ValueError, match="RunConfig has no field 'sed'; did you mean 'seed'"):
        run_config({"sed": 1})


def test_the_demo_is_the_size_it_claims_and_can_fail() -> None:
    demo = EXPERIMENTS["stdlib"]
    assert demo.ceilings == {"*": 2.1, "softmax": 1.9}
    assert demo.seeds == 3
    assert (demo.base.model.layers, demo.base.model.width) == (2, 64)
    assert (demo.base.training.batch_size, demo.base.training.context) == (16, 128)
