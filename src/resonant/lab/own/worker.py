"""A worker process that scores runs of a function of one's own, one by one.

Started as ``python -m resonant.lab.own.worker``. What it unpickles comes from the process that
started it, never from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..run.worker import Report, serve


def main() -> None:
    """Serve runs until the input closes."""
    serve(_score)


def _score(job: Mapping[str, Any], report: Report) -> None:
    from .run import score_job

    score_job(job, report)


if __name__ == "__main__":
    main()
