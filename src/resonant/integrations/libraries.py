"""Foreign libraries of the extra ``llm``, imported when they are needed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ..errors import UserError


def need(name: str) -> ModuleType:
    """The module ``name`` of transformers, PEFT or tokenizers.

    Raises ``UserError`` saying how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(
            f"this needs the package {package} ({error}); install it with pip install "
            "'resonant[llm]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """transformers and PEFT without bars for weights that load at once, and without each other's
    warnings of old names.
    """
    logging = need("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
