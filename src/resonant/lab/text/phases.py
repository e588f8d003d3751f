"""Arms of the phase language model: what it lacks, one change each, and what helps both models."""

from __future__ import annotations

from dataclasses import replace

from ...models.phase_configs import OSCILLATORS, PhaseLanguageModelConfig, with_oscillators
from ..kit.experiment import Arm


def phase_arms(
    model: PhaseLanguageModelConfig, learning_rate: float, static_hidden: int
) -> tuple[Arm, ...]:
    """The phase language model of the transformer's size, and one change to it each.

    ``static_hidden`` gives the drive what a static gate saves.
    """
    return (
        Arm(
            "kuramoto",
            "the phase language model (tokens are angles that couple), at its own learning rate",
            control="softmax",
            model=model,
            learning_rate=learning_rate,
        ),
        Arm(
            "kuramoto-free-phases",
            "no weight decay on the embedding's angles",
            control="kuramoto",
            changes={"model.decay_phases": False},
        ),
        Arm(
            "kuramoto-static",
            "a weight per coordinate for a content gate, and as many parameters more in the drive",
            control="kuramoto",
            model=replace(model, phase_gate="static", hidden=static_hidden),
        ),
        Arm(
            "kuramoto-gate",
            "an energy gate on the tokens listened to",
            control="kuramoto",
            changes={"model.attention.gate": "energy"},
        ),
    )


def delay_arms() -> tuple[Arm, ...]:
    """Heads that begin by looking back, by waves of their own or by rotary's phase alone.

    The second is the control of the first for its start.
    """
    return (
        Arm(
            "softmax-oscillators",
            "reference oscillators beside rotary positions",
            control="softmax",
            changes={"model.position.oscillators": OSCILLATORS},
        ),
        Arm(
            "softmax-biased",
            "learned vectors on queries and keys, whose rotary phases start as delays",
            control="softmax",
            changes={"model.position.kind": "rotary-biased"},
        ),
    )


def phase_models(
    model: PhaseLanguageModelConfig, threshold_hidden: int
) -> dict[str, tuple[str, PhaseLanguageModelConfig]]:
    """What the phase model lacked, by the ending of an arm's name: what it is, and the model.

    With oscillators angles start uniform on the circle and gates at 0.5, as in "started".
    ``threshold_hidden`` takes from the drive what a threshold needs.
    """
    started = with_oscillators(model)
    spread = {"embedding_start": "uniform", "gate_start": started.gate_start}
    threshold = {"self_score": "threshold", "hidden": threshold_hidden}
    return {
        "started": (
            "angles uniform and gates at 0.5 at the start, without oscillators",
            replace(model, **spread),
        ),
        "threshold": ("one's own logit a learned threshold", replace(model, **threshold)),
        "oscillators": ("reference oscillators beside the drift, and that start", started),
        "threshold-oscillators": ("both", replace(started, **threshold)),
        "successors": ("the pull of what followed", replace(model, successors=True)),
        "kernel": ("a learned kernel of pulls, two harmonics", replace(model, kernel=2)),
        "kernel-oscillators": (
            "a learned kernel of pulls, with reference oscillators",
            replace(started, kernel=2),
        ),
        "successors-oscillators": (
            "the pull of what followed, with reference oscillators",
            replace(started, successors=True),
        ),
    }


def oscillator_arms(
    model: PhaseLanguageModelConfig, rates: tuple[float, float], threshold_hidden: int
) -> tuple[Arm, ...]:
    """What the phase model lacked, one by one, at a rate without oscillators and one with them."""
    return tuple(
        Arm(
            f"kuramoto-{name}",
            says,
            control="kuramoto",
            model=chosen,
            learning_rate=rates[chosen.position.oscillators > 0],
        )
        for name, (says, chosen) in phase_models(model, threshold_hidden).items()
    )


def trial_arms(
    model: PhaseLanguageModelConfig, key_gate_hidden: int, gate_hidden: int
) -> tuple[Arm, ...]:
    """Six changes to the phase model with oscillators, towards the transformer with them.

    ``key_gate_hidden`` and ``gate_hidden`` take from the drive what such gates need.
    """
    started = with_oscillators(model)
    gate = replace(started.attention, gate="energy")
    short = replace(started.position, base=100.0)
    learned = replace(started.position, kind="morlet-relative")
    # Models, not changes: an option such as --model.steps goes to every arm, not to a trial alone.
    trials = {
        "key-gate": (
            "keys weigh their coordinates, too",
            replace(started, key_gate=True, hidden=key_gate_hidden),
        ),
        "next-block": (
            "a head scores with the next head's coordinates",
            replace(started, score_block="next"),
        ),
        "two-steps": ("two couplings a layer, with the same weights", replace(started, steps=2)),
        "gate": (
            "an energy gate on the tokens listened to",
            replace(started, attention=gate, hidden=gate_hidden),
        ),
        "short-base": ("a drift of short periods alone", replace(started, position=short)),
        "learned-drift": (
            "a learned drift, and a Gaussian locality",
            replace(started, position=learned),
        ),
    }
    control = "kuramoto-oscillators"
    return tuple(
        Arm(f"{control}-{name}", says, control, model=chosen)
        for name, (says, chosen) in trials.items()
    )
