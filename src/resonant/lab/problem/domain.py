"""Problems of one's own as a domain."""

from __future__ import annotations

from pathlib import Path

from ..kit.domain import WHOLE_BATCHES, Described, Domain
from .config import ArmConfig, ProblemConfig
from .experiments import EXPERIMENTS


def describe(config: ProblemConfig, data_dir: Path | None) -> Described:
    """The hash of the code that makes the data, and its name."""
    del data_dir  # the code says where its data are
    name = config.made_by.rpartition(":")[2]
    return Described(config.code, f"problem {name}")


DOMAIN = Domain(
    name="problem",
    data=(ProblemConfig,),
    models=(ArmConfig,),
    experiments=EXPERIMENTS,
    task="resonant.lab.problem.task:ProblemTask",
    describe="resonant.lab.problem.domain:describe",
    sections="resonant.lab.problem.report:SECTIONS",
    receive="resonant.lab.problem.making:receive",
    opener="resonant.lab.problem.making:open_run",
    unread={
        **WHOLE_BATCHES,
        "training.evaluation_windows": "; a Problem's valid_batches and test_batches say how many",
        "training.sample_tokens": "",
    },
)
