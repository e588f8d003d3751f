"""Foreign libraries of the extra ``llm``, imported when they are needed."""

from __future__ import annotations

import importlib
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
