"""Folders of transformers and of adapters, opened: the model with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError, in_words
from ..files import MODEL_CONFIG
from ..models.pretrained import read_description
from .adapters import ADAPTER, DESCRIPTION
from .libraries import local_folder, need, quiet
from .restore import is_described, restore_attention

NO_CODE = {"trust_remote_code": False}  # never code from a model's folder


def is_foreign(directory: Path) -> bool:
    """Whether ``directory`` holds a model of transformers, or adapters of one."""
    if any((directory / name).is_file() for name in (ADAPTER, DESCRIPTION)):
        return True
    try:
        return "model_type" in read_description(directory / MODEL_CONFIG)
    except (OSError, ValueError):
        return False


def open_causal(source: str | Path) -> tuple[Any, Any]:
    """The causal language model that ``source`` holds or names, and its tokenizer, in evaluation.

    ``source`` is a folder of ``save_pretrained``, a name that transformers knows, or a folder of an
    adapter (a run of ``resonant compare llama-lora``), loaded into the model that it names. What
    ``use_attention``, ``swap`` and ``add_krause_branch`` had set up comes back.

    Raises ``UserError`` for what cannot be opened.
    """
    path, transformers = Path(source), need("transformers")
    adapted = any((path / name).is_file() for name in (ADAPTER, DESCRIPTION))
    # A name in a file of someone's is not asked for: nothing is fetched for it.
    pretrained = str(local_folder(_base_of(path)) if adapted else source)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(pretrained, **NO_CODE)
            model = transformers.AutoModelForCausalLM.from_pretrained(pretrained, **NO_CODE)
    except Exception as error:  # whatever a damaged file makes transformers raise
        raise UserError(
            f"{pretrained} cannot be opened by transformers ({in_words(error)}); give a folder "
            "that save_pretrained wrote, with its tokenizer, or a name that it knows"
        ) from error
    try:
        with quiet():
            if is_described(path):
                model = restore_attention(model, path)
            elif adapted:
                model = need("peft").PeftModel.from_pretrained(model, str(path))
    except ValueError as error:  # says by itself what is wrong
        raise UserError(str(error)) from error
    except Exception as error:
        raise UserError(f"the adapter in {path} cannot be opened ({in_words(error)})") from error
    return model.eval(), tokenizer


def _base_of(directory: Path) -> str:
    """The pretrained model that PEFT says an adapter is of."""
    described = directory / ADAPTER
    if described.is_file():
        try:
            name = read_description(described).get("base_model_name_or_path")
        except ValueError as error:
            raise UserError(str(error)) from error
        if isinstance(name, str) and name:
            return name
    raise UserError(
        f"{directory} holds a branch and not the model it is of; load it with "
        "resonant.integrations.restore_attention"
    )
