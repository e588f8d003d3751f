"""A model of transformers with what was set up and learned in it, from where it was saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError
from ..files import MODEL_CONFIG, WEIGHTS
from ..hints import OURS
from ..models.pretrained import read_description
from . import attention_interface, branch
from .adapters import ADAPTER, DESCRIPTION, open_adapter, open_branch
from .branch import BranchConfig
from .libraries import local_folder
from .record import BRANCHED, KEY, SWAPPED, USED, as_options, foreign_root
from .swap import swap, unswap

INDEX = f"{WEIGHTS}.index.json"  # as transformers calls it


def restore_attention(model: Any, source: str | Path, *, trainable: bool = False) -> Any:
    """Set up in ``model`` what ``source`` says, and fill in what was learned; returns the model.

    ``source`` is a folder that ``save_pretrained`` wrote after ``use_attention``, ``swap`` or
    ``add_krause_branch``, or the name on the hub of such a folder, which ``from_pretrained`` has
    fetched; ``model`` is what ``from_pretrained`` gave of it:

        model = AutoModelForCausalLM.from_pretrained(source)  # warns of unexpected names
        model = restore_attention(model, source)

    Or ``source`` is what ``save_branch`` wrote, or PEFT's ``save_pretrained`` of a model whose
    adapter ``lora_config`` made; ``model`` is then the pretrained one. An adapter comes back as
    PEFT's model, which can go on learning if ``trainable``.

    Raises ``FileNotFoundError`` for a folder without configuration and a name that has not been
    fetched, ``ValueError`` for a folder in which nothing of ours was set up, a model that is set up
    already or of other layers, and weights that are missing, damaged or of another shape; the
    model is then as it was.
    """
    try:
        directory = local_folder(source)
    except UserError as error:
        raise FileNotFoundError(str(error)) from error
    if (directory / DESCRIPTION).is_file():
        return open_branch(model, directory, trainable=trainable)
    root, _ = foreign_root(model)
    if root is None:
        raise ValueError(f"{type(model).__name__} is no model of transformers")
    adapted = (directory / ADAPTER).is_file()
    name = ADAPTER if adapted else MODEL_CONFIG
    written = _described(directory, name)
    if not written:
        raise ValueError(
            f"{directory / name} names no attention of ours: nothing was set up when it was saved"
        )
    if _is_set_up(root):
        raise ValueError(
            "attention of ours is set up in this model already; restore into the model that "
            "from_pretrained gives"
        )
    before = getattr(root.config, KEY, None)
    undo: list[Callable[[], Any]] = []
    try:
        if before is not None:
            delattr(root.config, KEY)
        for step in written:
            undo.append(_try_set_up(root, step, directory / name))
        if adapted:
            return open_adapter(model, directory, trainable=trainable)
        _fill(root, written, directory)
    except BaseException:
        for take_back in reversed(undo):
            take_back()
        if before is not None:
            setattr(root.config, KEY, before)
        raise
    return model


def is_described(directory: Path) -> bool:
    """Tell whether ``restore_attention`` would find something of ours in ``directory``."""
    if (directory / DESCRIPTION).is_file():
        return True
    found = (name for name in (ADAPTER, MODEL_CONFIG) if (directory / name).is_file())
    return any(_described(directory, name) for name in found)


def _described(directory: Path, name: str) -> list[dict[str, Any]]:
    path = directory / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} holds no {name}; give a folder that save_pretrained wrote"
        )
    found = read_description(path).get(KEY) or []
    try:
        whole = all({"by", "mechanism", "layers", "options"} <= set(step) for step in found)
    except TypeError as error:
        raise ValueError(f"{path} is damaged ({error}); save the model again") from error
    if not whole:
        raise ValueError(f"{path} is damaged: a step under {KEY!r} lacks a part; save it again")
    return found


def _is_set_up(root: Any) -> bool:
    names = (name for name, _ in root.named_modules())
    return any(f".{name}.".find(each) >= 0 for name in names for each in OURS)


def _try_set_up(root: Any, step: dict[str, Any], path: Path) -> Callable[[], Any]:
    try:
        return _set_up(root, step)
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged: {step['by']} does not take the options under {KEY!r} ({error}); "
            "save the model again"
        ) from error


def _set_up(root: Any, step: dict[str, Any]) -> Callable[[], Any]:
    """Do what a step says; returns what takes it back."""
    layers = [name_in(root, layer) for layer in step["layers"]]
    options = step["options"]
    if step["by"] == USED:
        given = as_options(options)
        attention_interface.use_attention(
            root, step["mechanism"], layers=layers, check=False, **given
        )
        return lambda: attention_interface.drop_attention(root)
    if step["by"] == SWAPPED:
        swap(root, step["mechanism"], layers=layers, **as_options(options))
        return lambda: unswap(root)
    if step["by"] == BRANCHED:
        branch.attach(root, BranchConfig(**options))
        return lambda: branch.remove_krause_branch(root)
    raise ValueError(f"the configuration says {step['by']!r}, which is none of ours")


def name_in(root: Any, layer: str) -> str:
    """Find the name of a layer in ``root``, where what was set up was a part of it, or held it.

    Raises ``ValueError`` for a layer that is not there, or is several.
    """
    named = dict(root.named_modules())
    parts = layer.split(".")
    for first in range(len(parts)):
        rest = ".".join(parts[first:])
        if rest in named:
            return rest
        within = [name for name in named if name.endswith(f".{rest}")]
        if len(within) == 1 and first == 0:
            return within[0]
    raise ValueError(f"no attention is called {layer!r} in {type(root).__name__}")


def _fill(root: Any, written: list[dict[str, Any]], directory: Path) -> None:
    """Load the weights of all layers that were set up, ours and those of what they replaced."""
    places = tuple(f"{name_in(root, name)}." for step in written for name in step["layers"])
    wanted = {name: x for name, x in root.state_dict().items() if name.startswith(places)}
    saved_as = _saved_names(root, wanted)
    part = f"{getattr(root, 'base_model_prefix', '')}."
    found = {}
    for name, x in _weights(directory):  # a model with a head, or the one inside it
        for each in (name, name.removeprefix(part), part + name):
            if each in saved_as:
                found[saved_as[each]] = x
    missing = sorted(name for name in wanted if name not in found and _is_ours(name))
    if missing:
        raise ValueError(
            f"the weights in {directory} lack {missing[0]} and {len(missing) - 1} more of what the "
            "configuration says was learned; save the model again"
        )
    for name, x in found.items():
        if x.shape != wanted[name].shape:
            raise ValueError(
                f"{name} in {directory} has the shape {tuple(x.shape)}, in this model "
                f"{tuple(wanted[name].shape)}; restore into the model it was saved from"
            )
    root.load_state_dict(found, strict=False)


def _saved_names(root: Any, wanted: dict[str, Tensor]) -> dict[str, str]:
    """The model's name of each weight by that in its file: transformers keeps old names there."""
    from transformers.core_model_loading import revert_weight_conversion

    names = {id(x): name for name, x in wanted.items()}
    # What is more than renamed is the host's own, and from_pretrained has loaded it.
    saved = revert_weight_conversion(root, dict(wanted)).items()
    return {name: names[id(x)] for name, x in saved if id(x) in names}


def _is_ours(name: str) -> bool:
    return any(part in name for part in OURS)


def _weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a folder by name; files of transformers alone, and no code from them."""
    files = {WEIGHTS}
    try:
        if (directory / INDEX).is_file():
            files = set(json.loads((directory / INDEX).read_text())["weight_map"].values())
        for file in sorted(files):
            if Path(file).name != file:
                raise ValueError(f"{INDEX} names {file!r}, which is no file beside it")
            with safe_open(directory / file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (no dictionary)
                    yield name, opened.get_tensor(name)
    except (SafetensorError, OSError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the weights in {directory} are missing or damaged ({error}); save the model again "
            "(safetensors)"
        ) from error
