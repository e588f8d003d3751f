"""Options that no arm reads are refused; where one is read stands at the option itself."""

import dataclasses
from typing import Any

import pytest

from resonant.errors import UserError
from resonant.lab.compare.options import check_names, check_options
from resonant.lab.domains import DOMAINS, EXPERIMENTS
from resonant.lab.kit.config import TrainingConfig
from resonant.models.fields import READ, fixed_options, options

MODELS = [kind() for domain in DOMAINS for kind in domain.models]
CONDITIONS = sorted(
    {
        (model.architecture, name)
        for model in MODELS
        for name, f, _ in options(model, "model")
        if READ in f.metadata
    }
)


def check(experiment: str, option: str, value: Any, arms: list[str] | None = None) -> None:
    chosen = EXPERIMENTS[experiment]
    named = [chosen.arm(name) for name in arms] if arms else list(chosen.arms)
    overrides = {option: value}
    runs = [chosen.config(chosen.base, arm, 0, overrides) for arm in named]
    check_options(named, runs, overrides)
    check_names(chosen, runs, overrides)


def test_there_are_conditions_in_every_kind_of_model_that_has_such_options() -> None:
    names = {name for _, name in CONDITIONS}
    assert names == {
        "model.attention.components",
        "model.attention.first",
        "model.attention.layers",
        "model.attention.listen",
        "model.attention.measure",
        "model.attention.scalars_per",
        "model.attention.score",
        "model.attention.standardize",
        "model.attention.start",
        "model.attention.tempo",
        "model.position.locality",
        "model.position.max_length",
        "model.symbols_per_frame",
    }
    assert {"adapted", "frames", "phase", "pixels", "speech", "transformer", "vision"} == {
        a for a, _ in CONDITIONS
    }


@pytest.mark.parametrize(
    ("experiment", "option", "value", "says"),
    [
        ("digits", "training.context", 9, "is read by none of these arms"),
        ("align", "model.attention.mechanism", "clock", "is what these arms are about"),
        ("probes", "data.name", "recall", "is what these arms are about"),
        ("cifar10-subset", "training.sample_tokens", 9, "is read by none of these arms"),
    ],
)
def test_what_is_refused(experiment: str, option: str, value: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(experiment, option, value)


@pytest.mark.parametrize(
    ("experiment", "arms", "option", "value", "says"),
    [
        ("stdlib", ["softmax"], "model.attention.standardize", "none", "model.attention.gate = e"),
        ("stdlib", ["softmax"], "model.position.max_length", 99, "model.position.kind = learned"),
        ("stdlib", ["softmax"], "model.position.locality", 9.0, "kind = morlet-relative only"),
        ("align", ["softmax"], "model.attention.score", "density", "mechanism = clock only"),
        ("align", ["clock"], "model.attention.components", 5, "mechanism = gaussian-mixture"),
        (
            "align",
            ["clock"],
            "model.symbols_per_frame",
            0.5,
            "by mixtures, forward attention and autoregressive",
        ),
    ],
)
def test_what_no_arm_reads_is_refused(
    experiment: str, arms: list[str], option: str, value: Any, says: str
) -> None:
    with pytest.raises(UserError, match=f"--{option} is read .*{says}.*: {arms[0]}"):
        check(experiment, option, value, arms)


@pytest.mark.parametrize(
    ("experiment", "arms", "option", "value"),
    [
        ("stdlib", ["softmax", "softmax-gate"], "model.attention.standardize", "none"),
        ("align", ["softmax", "next-clock"], "model.symbols_per_frame", 0.5),
        ("llama-lora", None, "training.context", 64),  # prompts and responses are cut there
        ("llama-lora", None, "training.sample_tokens", 9),
        ("probes", None, "model.symbols_per_frame", 0.5),
        ("energy-gate", None, "model.attention.gate", "energy-leaking"),
    ],
)
def test_what_an_arm_reads_is_not(
    experiment: str, arms: list[str] | None, option: str, value: Any
) -> None:
    if option == "model.attention.gate":  # it is what the arms are about: one alone has it
        arms = ["learned-gate-sequence"]
    check(experiment, option, value, arms)


def test_gates_are_those_known_or_of_the_experiment_s_plugins() -> None:
    with pytest.raises(
        UserError, match="no gate is called 'energy-leaking'; did you mean 'energy'"
    ):
        check("stdlib", "model.attention.gate", "energy-leaking", ["softmax-gate"])
    with pytest.raises(UserError, match=r"no gate is called 'x'; .*needs --plugins"):
        check("energy-gate", "model.attention.gate", "x", ["learned-gate-prefix"])


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
def test_what_a_domain_does_not_read_is_a_field_of_training(domain: Any) -> None:
    fields = {f"training.{field.name}" for field in dataclasses.fields(TrainingConfig)}
    assert set(domain.unread) <= fields


def test_phases_and_frames_are_about_their_mechanism() -> None:
    fixed = {model.architecture for model in MODELS if fixed_options(model, "model")}
    assert fixed == {"frames", "phase", "speech"}
