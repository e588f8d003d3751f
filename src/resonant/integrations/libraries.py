"""Foreign libraries of the extra ``llm``, imported when they are needed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ..errors import UserError, in_words


def need(name: str) -> ModuleType:
    """The module ``name`` of a package of the extras ``llm`` and ``smollm``.

    Raises ``UserError`` saying how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        extra = "smollm" if package == "gguf" else "llm"
        raise UserError(
            f"this needs the package {package} ({error}); install it with pip install "
            f"'resonant[{extra}]'"
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


def local_folder(source: str | Path, *, fetch: bool = False) -> Path:
    """Find the folder of that name, or where the hub's library keeps the files under it.

    Raises ``UserError`` for a name that is neither, and whose files are not here; with ``fetch``
    they are fetched.
    """
    directory = Path(source)
    if directory.is_dir() or isinstance(source, Path):
        return directory
    hub = need("huggingface_hub")
    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(hub.snapshot_download(source, local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError) as error:
        if not fetch or isinstance(error, hub.errors.HFValidationError):
            raise UserError(
                f"{source} is neither a folder nor the name of a model whose files are here; fetch "
                f"it first, by `hf download {source}`"
            ) from error
    try:
        return Path(hub.snapshot_download(source, allow_patterns=patterns))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        raise UserError(
            f"{source} is no folder here, and its files cannot be fetched ({in_words(error)})"
        ) from error
