"""What Resonant adds to the warnings of transformers about a model that it set up."""

from __future__ import annotations

import logging

LOGGER = "transformers.modeling_utils"  # reports weights that a model has no place for
OURS = (".resonant.", ".krause_branch.")  # in names of weights that are no other library's
HINT = (
    "Resonant: names with {names} were learned by attention that is not set up here: "
    "resonant.integrations.restore_attention(model, folder) brings it back."
)


def add_hint(record: logging.LogRecord) -> bool:
    """Say, in a report of unexpected weights of ours, which call brings them back; keep all."""
    text = record.getMessage()
    names = [name for name in OURS if name in text]
    if names and "UNEXPECTED" in text and "Resonant:" not in text:
        record.msg = f"{text}\n\n{HINT.format(names=' or '.join(names))}"
        record.args = ()
    return True


def install() -> None:
    """Let ``add_hint`` see the reports of transformers; once, and without loading it."""
    logger = logging.getLogger(LOGGER)
    if add_hint not in logger.filters:
        logger.addFilter(add_hint)
