"""Curves as a domain: a plugin, ``--plugins tests.lab.toy.domain``."""

from pathlib import Path

from resonant.errors import UserError
from resonant.lab.domains import register_domain
from resonant.lab.kit.config import RunConfig, TrainingConfig
from resonant.lab.kit.domain import Described, Domain
from resonant.lab.kit.experiment import Arm, Experiment

from .config import CurveConfig, LineConfig, WaveConfig

EXPERIMENT = Experiment(
    name="curves",
    says="networks of one hidden layer fitted to a wave",
    base=RunConfig(
        experiment="curves",
        plugins=("tests.lab.toy.domain",),
        model=CurveConfig(),
        data=WaveConfig(),
        training=TrainingConfig(steps=60, batch_size=32, warmup=5, evaluate_every=20),
    ),
    arms=(
        Arm("tanh", "units that saturate"),
        Arm("relu", "units that do not", control="tanh", changes={"model.activation": "relu"}),
        Arm("line", "no units at all", control="tanh", model=LineConfig()),
    ),
    unit="squared error",
    token="point",
)


def check(config: RunConfig) -> None:
    """Refuse waves that a network of this width cannot follow."""
    data, model = config.data, config.model
    assert isinstance(data, WaveConfig)
    if isinstance(model, CurveConfig) and data.frequency > model.width:
        raise UserError(
            f"a wave of frequency {data.frequency:g} needs as many units; pass --model.width "
            f"{data.frequency:g}"
        )


def describe(config: WaveConfig, data_dir: Path | None) -> Described:
    """The hash of the points, and what they are."""
    del data_dir  # made up
    return Described(config.digest(), f"points on a wave of frequency {config.frequency:g}")


DOMAIN = Domain(
    name="toy",
    data=(WaveConfig,),
    models=(CurveConfig, LineConfig),
    experiments=(EXPERIMENT,),
    task="tests.lab.toy.task:CurveTask",
    describe="tests.lab.toy.domain:describe",
    sections="tests.lab.toy.report:SECTIONS",
    check=check,
    unread={"training.context": "; points have no length", "training.sample_tokens": ""},
)
register_domain(DOMAIN)
