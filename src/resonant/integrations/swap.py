"""Another mechanism in a model that exists: attention modules replaced in place, and put back."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..errors import nearest
from ..mechanism import mechanism as find
from ..nn.adapter import PhaseAdapter
from ..nn.attention import Attention
from ..nn.block import CrossBlock
from ..nn.linear import LinearAttention
from ..nn.modes import NESTED, ORIGINAL, is_swapped
from ..nn.window import WindowAttention
from .decoder import HostedDecoderAttention, is_decoder
from .hosted import HostedAttention, is_host
from .multihead import HostedMultihead
from .record import SWAPPED, check_options, foreign_roots, forget, remember
from .replacement import PROJECTIONS, replacement


class Swapped(list[str]):
    """The names of the layers that ``swap`` replaced, and how many parameters are new.

    ``new_parameters`` counts numbers that an optimizer made before does not hold.
    """

    def __init__(self, names: Iterable[str], new_parameters: int) -> None:
        super().__init__(names)
        self.new_parameters = new_parameters

    def __repr__(self) -> str:
        count = f"{len(self)} layer{'s' if len(self) != 1 else ''}"
        return (
            f"<{count} swapped: {', '.join(self)}; {self.new_parameters:,} numbers in new "
            "parameters: make the optimizer after this>"
        )


def swap(
    model: nn.Module,
    mechanism: str,
    *,
    layers: Sequence[int | str] | int | str | None = None,
    **options: Any,
) -> Swapped:
    """Replace attention modules of ``model``, in place, by ``mechanism``; returns their names.

    **Make the optimizer after it**: one made before holds the old parameters (what is returned says
    how many are new). Replaced are ``nn.MultiheadAttention``, Resonant's ``Attention``, and the
    attention of transformers' vision models (ViT, DeiT, DINOv2 and others made alike, whose patches
    a ``Grid`` gives neighbours) and of its Llama, Qwen2 and Qwen3, with their caches. ``layers``
    chooses among them, by number in the model's order (negative from the end) or by name, in which
    ``*`` stands for anything (None: all). Weights and biases of the projections are copied, and the
    learned scalars where the mechanism stays; masks keep their meaning, and Resonant's modules keep
    neighbourhood, top-k, position and gate; ``options`` go to the new modules (``sigma=2.5,
    neighborhood=Causal(128)``). With "softmax" nothing changes but rounding. Krause starts at
    ``sigma = head_dim ** 0.25`` unless given: its logits are then those of softmax minus ``|k|^2 /
    (2 sqrt(head_dim))``. "kuramoto" has other projections (``PhaseAdapter``), which start anew.
    ``unswap`` puts the old modules back.

    A ``neighborhood`` is for self-attention: where the key is another tensor than the query, the
    old module's stays. What stands in the place of an ``nn.MultiheadAttention`` is called as that
    was (``batch_first``, ``need_weights``, ``average_attn_weights``); see ``HostedMultihead``.

    A module that stands in several places is replaced in all of them. Parameters that two modules
    share are shared no more; hooks stay with the old modules. Save a swapped model by its
    ``state_dict``; one of transformers by ``save_pretrained``, whose config.json says what was
    swapped: ``integrations.restore_attention`` brings it back.

    Raises ``ValueError`` for an unknown mechanism, a model without such modules, layers that there
    are not, projections that another library has wrapped (adapters, quantized layers), and options
    of MultiheadAttention that Resonant lacks, ``TypeError`` for an option that there is not; the
    model is then as it was.
    """
    find(mechanism)  # the name first: whatever else is wrong, a misspelt one is
    check_options(options)
    places = _chosen(model, layers)
    _check_neighborhood(model, places, options)
    made = {}
    for name in places:
        check_plain(model, name)
        given = options
        if _crosses(model, name):  # what it sees stays as it is
            given = {n: x for n, x in options.items() if n != "neighborhood"}
        made[name] = replacement(model.get_submodule(name), mechanism, given)
    old = {id(p) for p in model.parameters()}
    befores = [model.get_submodule(name) for name in places]
    encoders = _encoders(model)
    with all_or_nothing(model, [place for each in places.values() for place in each]):
        for name, module in made.items():
            before = model.get_submodule(name)
            module.train(before.training)
            module.__dict__[ORIGINAL] = before
            for place in places[name]:
                model.set_submodule(place, module)
    for encoder in encoders:
        encoder.__dict__.setdefault(NESTED, encoder.use_nested_tensor)
        encoder.use_nested_tensor = False  # its C++ path knows softmax alone
    hosted = any(is_host(old) or is_decoder(old) for old in befores)
    if hosted and not foreign_roots(model):
        warnings.warn(
            "this is a part of a model of transformers, whose configuration will not say what was "
            "swapped; swap in the whole model, and choose by layers=",
            stacklevel=2,
        )
    remember(model, SWAPPED, list(places), mechanism=mechanism, options=options)
    new = {id(p): p.numel() for m in made.values() for p in m.parameters() if id(p) not in old}
    return Swapped(places, sum(new.values()))


@contextmanager
def all_or_nothing(model: nn.Module, places: Sequence[str]) -> Iterator[None]:
    """Inside the block the modules in ``places`` are replaced; on an error all are put back."""
    before = {place: model.get_submodule(place) for place in places}
    try:
        yield
    except BaseException:
        for place, module in before.items():
            model.set_submodule(place, module)
        raise


def unswap(model: nn.Module) -> list[str]:
    """Put back, in place, the modules that ``swap`` replaced, with the weights they had then.

    What the replacements have learned since goes with them. Returns the names; several swaps of
    one module are undone one by one.

    Raises ``ValueError`` for a model in which nothing was swapped.
    """
    named = list(model.named_modules(remove_duplicate=False))
    swapped = [(name, module) for name, module in named if is_swapped(module)]
    if not swapped:
        raise ValueError("nothing in this model was swapped; use resonant.swap first")
    for name, module in swapped:
        old: nn.Module = module.__dict__[ORIGINAL]
        like = next(module.parameters(), None)
        if like is not None:
            old.to(device=like.device, dtype=like.dtype)
        model.set_submodule(name, old.train(module.training))
    if not any(is_swapped(module) for module in model.modules()):
        for encoder in _encoders(model):
            encoder.use_nested_tensor = encoder.__dict__.pop(NESTED, encoder.use_nested_tensor)
    forget(model, SWAPPED, [name for name, _ in swapped])
    return [name for name, _ in swapped]


def check_plain(model: nn.Module, name: str) -> None:
    """Raise ``ValueError`` if the projections of the attention ``name`` are not ``nn.Linear``'s.

    Such are adapters around or inside it, and quantized layers: their weight is not all there is.
    """
    module, parts = model.get_submodule(name), name.split(".")
    around = [".".join(parts[:n]) for n in range(len(parts))]
    suspects = {each: model.get_submodule(each) for each in around}
    suspects = {n: m for n, m in suspects.items() if hasattr(m, "base_layer")}
    if not (is_decoder(module) or isinstance(module, HostedDecoderAttention)):  # copied whole
        inside = {f"{name}.{n}": getattr(module, n, None) for n in (*PROJECTIONS, "o_proj")}
        plain = nn.Linear.forward
        suspects |= {n: m for n, m in inside.items() if m and type(m).forward is not plain}
    for where, found in suspects.items():
        kind = f"{type(found).__module__.partition('.')[0]}'s {type(found).__name__}"
        raise ValueError(
            f"{where} is {kind}, and what it adds to its weight would be lost; merge adapters into "
            "the model first (merge_and_unload), swap before they are added or before quantizing, "
            "or leave this layer out"
        )


def _crosses(model: nn.Module, name: str) -> bool:
    """Whether a place is known to be one of cross-attention."""
    parent, _, attribute = name.rpartition(".")
    around = model.get_submodule(parent)
    if isinstance(around, nn.TransformerDecoderLayer):
        return attribute == "multihead_attn"
    return isinstance(around, CrossBlock) and attribute == "cross"


def _check_neighborhood(model: nn.Module, places: Iterable[str], options: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a neighborhood where there is cross-attention alone."""
    if "neighborhood" in options and all(_crosses(model, name) for name in places):
        raise ValueError(
            f"neighborhood={options['neighborhood']} is for self-attention, but the layers chosen "
            "are cross-attention; leave it out, or choose other layers"
        )


def _encoders(model: nn.Module) -> list[nn.TransformerEncoder]:
    return [module for module in model.modules() if isinstance(module, nn.TransformerEncoder)]


def _swappable(module: nn.Module) -> bool:
    """Not a MultiheadAttention that computes something of its own."""
    if isinstance(module, nn.MultiheadAttention):
        return type(module).forward is nn.MultiheadAttention.forward
    hosted = (HostedAttention, HostedDecoderAttention, HostedMultihead)
    ours = (Attention, LinearAttention, PhaseAdapter, *hosted)
    return isinstance(module, ours) or is_host(module) or is_decoder(module)


def _chosen(
    model: nn.Module, layers: Sequence[int | str] | int | str | None
) -> dict[str, list[str]]:
    """The first place of each chosen module, and all its places."""
    by_module: dict[int, list[str]] = {}
    named = list(model.named_modules(remove_duplicate=False))
    whole = (HostedAttention, HostedMultihead, WindowAttention)  # what is inside them is theirs
    hosted = tuple(f"{name}." for name, m in named if isinstance(m, whole))
    for name, module in named:
        if _swappable(module) and not name.startswith(hosted):
            by_module.setdefault(id(module), []).append(name)
    found = {places[0]: places for places in by_module.values()}
    if "" in found:
        raise ValueError(
            "the model is itself an attention module, which cannot be replaced in place; put it "
            "into a module (such as nn.ModuleDict), or use a module of resonant.nn"
        )
    if not found:
        raise ValueError(
            "the model holds no nn.MultiheadAttention, no Resonant attention and none of a ViT, "
            "Llama or Qwen of transformers to swap; attention of another class can be replaced by "
            "hand with modules of resonant.nn, windows by nn.WindowAttention of another mechanism, "
            "other models of transformers take resonant.integrations.use_attention"
        )
    return {name: found[name] for name in chosen_layers(layers, list(found))}


def chosen_layers(layers: Sequence[int | str] | int | str | None, names: list[str]) -> list[str]:
    """Those of ``names`` that ``layers`` means, in their order; see ``swap``.

    Raises ``ValueError`` for one that there is not.
    """
    if layers is None:
        return names
    wanted: set[str] = set()
    for layer in [layers] if isinstance(layers, (int, str)) else layers:
        wanted |= _matching(layer, names)
    return [name for name in names if name in wanted]


def _matching(layer: int | str, names: list[str]) -> set[str]:
    if isinstance(layer, bool):
        raise TypeError(f"layers are numbers or names; {layer} is neither")
    if isinstance(layer, int):
        if not -len(names) <= layer < len(names):
            raise ValueError(
                f"there is no layer {layer}: the model has {len(names)} attention layers, "
                f"-{len(names)} to {len(names) - 1}"
            )
        return {names[layer]}
    matching = {name for name in names if fnmatchcase(name, layer)}
    if not matching:
        raise ValueError(f"no attention is called {layer!r}; {nearest(layer, names)}")
    return matching
