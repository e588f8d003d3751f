"""Another mechanism in a model that exists: attention modules replaced in place, and put back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import nearest
from ..mechanism import mechanism as find
from ..nn.attention import Attention
from ..nn.factory import attention
from ..nn.kuramoto import PhaseAdapter
from ..nn.linear import LinearAttention
from ..nn.modes import NESTED, ORIGINAL, is_swapped
from ..nn.window import WindowAttention
from .decoder import HostedDecoderAttention, is_decoder
from .hosted import HostedAttention, is_host

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def swap(
    model: nn.Module,
    mechanism: str,
    *,
    layers: Sequence[int | str] | int | str | None = None,
    **options: Any,
) -> list[str]:
    """Replace attention modules of ``model``, in place, by ``mechanism``; returns their names.

    Replaced are ``nn.MultiheadAttention`` with ``batch_first=True``, Resonant's ``Attention``, and
    the attention of transformers' vision models (ViT, DeiT, DINOv2 and others made alike, whose
    patches a ``Grid`` gives neighbours) and of its Llama, Qwen2 and Qwen3, with their caches.
    ``layers`` chooses among them, by number in the model's order (negative from the end) or by
    name, in which ``*`` stands for anything (None: all). Weights and biases of the projections are
    copied, and the learned scalars where the mechanism stays; masks keep their meaning, and
    Resonant's modules keep neighbourhood, top-k, position and gate; ``options`` go to the new
    modules (``sigma=2.5, neighborhood=Causal(128)``). With "softmax" nothing changes but rounding.
    Krause starts at ``sigma = head_dim ** 0.25`` unless given: its logits are then those of softmax
    minus ``|k|^2 / (2 sqrt(head_dim))``. "kuramoto" has other projections (``PhaseAdapter``), which
    start anew. ``unswap`` puts the old modules back.

    A module that stands in several places is replaced in all of them. Parameters that two modules
    share are shared no more; hooks stay with the old modules; an optimiser made before holds the
    old parameters: make it after. Weights come per head and only with ``need_weights=True``. Save
    a swapped model by its ``state_dict``.

    Raises ``ValueError`` for a model without such modules, layers that there are not, and options
    of MultiheadAttention that Resonant lacks, ``TypeError`` for an option that there is not; the
    model is then as it was.
    """
    places = _chosen(model, layers)
    made = {name: _replacement(model.get_submodule(name), mechanism, options) for name in places}
    for name, module in made.items():
        old = model.get_submodule(name)
        module.train(old.training)
        module.__dict__[ORIGINAL] = old
        for place in places[name]:
            model.set_submodule(place, module)
    for encoder in _encoders(model):
        encoder.__dict__.setdefault(NESTED, encoder.use_nested_tensor)
        encoder.use_nested_tensor = False  # its C++ path knows softmax alone
    return list(places)


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
        like = next(module.parameters())
        old.to(device=like.device, dtype=like.dtype)
        model.set_submodule(name, old.train(module.training))
    if not any(is_swapped(module) for module in model.modules()):
        for encoder in _encoders(model):
            encoder.use_nested_tensor = encoder.__dict__.pop(NESTED, encoder.use_nested_tensor)
    return [name for name, _ in swapped]


def _encoders(model: nn.Module) -> list[nn.TransformerEncoder]:
    return [module for module in model.modules() if isinstance(module, nn.TransformerEncoder)]


def _swappable(module: nn.Module) -> bool:
    """Not a MultiheadAttention that computes something of its own."""
    if isinstance(module, nn.MultiheadAttention):
        return type(module).forward is nn.MultiheadAttention.forward
    ours = (Attention, LinearAttention, PhaseAdapter, HostedAttention, HostedDecoderAttention)
    return isinstance(module, ours) or is_host(module) or is_decoder(module)


def _chosen(
    model: nn.Module, layers: Sequence[int | str] | int | str | None
) -> dict[str, list[str]]:
    """The first place of each chosen module, and all its places."""
    by_module: dict[int, list[str]] = {}
    named = list(model.named_modules(remove_duplicate=False))
    whole = (HostedAttention, WindowAttention)  # what is inside them is theirs
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
    if isinstance(layer, int):
        if not -len(names) <= layer < len(names):
            raise ValueError(f"there is no layer {layer}: the model has {len(names)} to swap")
        return {names[layer]}
    matching = {name for name in names if fnmatchcase(name, layer)}
    if not matching:
        raise ValueError(f"no attention is called {layer!r}; {nearest(layer, names)}")
    return matching


def _replacement(old: nn.Module, mechanism: str, options: dict[str, Any]) -> nn.Module:
    if isinstance(old, HostedAttention):
        return HostedAttention(_replacement(old.attention, mechanism, options))  # type: ignore[arg-type]
    if is_decoder(old) or isinstance(old, HostedDecoderAttention):
        return _decoder(old, mechanism, options)
    if is_host(old):
        sizes, kept, copied = _of_host(old)
    elif isinstance(old, nn.MultiheadAttention):
        sizes, kept, copied = _of_torch(old)
    elif isinstance(old, (Attention, LinearAttention)):
        sizes, kept, copied = _of_ours(old)
    else:
        raise ValueError(
            "a PhaseAdapter has no queries, keys and values to give to another mechanism; unswap "
            "it first, or choose other layers"
        )
    chosen = find(mechanism)
    if chosen.timed:
        raise ValueError(
            "clocks have no queries and keys to take over; set a decoder's multihead_attn to "
            "resonant.nn.ClockAttention instead"
        )
    kept |= chosen.like_softmax(sizes[0] // sizes[1])
    if not chosen.projects:
        kept.pop("scalars_per", None)
    if chosen.couples_phases:
        kept.pop("vdim", None)  # the values of coupling are the phases of its keys
    new = attention(mechanism, *sizes, **(kept | options))
    like = next(old.parameters())
    new.to(device=like.device, dtype=like.dtype)
    if isinstance(new, (Attention, LinearAttention)):
        _copy(copied, new)
    _copy_scalars(old, new, [name for name in options if name != "scalars_per"])
    return HostedAttention(new) if is_host(old) else new


def _decoder(old: Any, mechanism: str, options: dict[str, Any]) -> HostedDecoderAttention:
    """The attention of a decoder by another mechanism; projections, caches and masks stay."""
    chosen = find(mechanism)
    if not chosen.projects and not chosen.couples_phases:
        raise ValueError(
            f"{mechanism} attention has no place in a decoder of transformers, whose caches hold "
            "keys and values; choose softmax, krause or a mechanism of your own"
        )
    if hasattr(old, "krause_branch"):
        raise ValueError(
            "this attention has a branch beside it; remove it first by "
            "resonant.integrations.remove_krause_branch"
        )
    kept: dict[str, Any] = dict(chosen.like_softmax(old.head_dim))
    if isinstance(old, HostedDecoderAttention):
        kept |= {"neighborhood": old.hosted.neighborhood, "top_k": old.hosted.top_k}
    new = HostedDecoderAttention(old, mechanism, **(kept | options))
    like = next(old.parameters())
    new.hosted.to(device=like.device)
    return new


@torch.no_grad()
def _copy_scalars(old: nn.Module, new: nn.Module, given: list[str]) -> None:
    """Learned scalars where the mechanism stays; of heads that become one, their mean."""
    if not (isinstance(old, Attention) and isinstance(new, Attention)):
        return
    if old.mechanism == new.mechanism:
        for name in [name for name in old.scalars if name not in given]:
            learned = old.get_parameter(f"scalars.{name}.value")
            target = new.get_parameter(f"scalars.{name}.value")
            same = len(learned) == len(target) or len(learned) == 1
            target.copy_(learned if same else learned.mean())


def _widths(embed_dim: int, kdim: int, vdim: int) -> dict[str, int]:
    """Widths of keys and values, where they are not those of queries."""
    return {n: size for n, size in (("kdim", kdim), ("vdim", vdim)) if size != embed_dim}


@torch.no_grad()
def _copy(copied: Copied, new: Attention | LinearAttention) -> None:
    """Projections as they were, frozen where they were."""
    for name, (weight, bias) in copied.items():
        projection = getattr(new, name)
        projection.weight.copy_(weight).requires_grad_(weight.requires_grad)
        if bias is not None:
            projection.bias.copy_(bias).requires_grad_(bias.requires_grad)


Copied = dict[str, tuple[Tensor, Tensor | None]]


def _of_torch(old: nn.MultiheadAttention) -> tuple[tuple[int, int], dict[str, Any], Copied]:
    """Sizes, options and projections of a MultiheadAttention."""
    if not old.batch_first:
        raise ValueError(
            "this MultiheadAttention has batch_first=False, which Resonant does not support; build "
            "the model with batch_first=True"
        )
    if old.bias_k is not None or old.add_zero_attn:
        raise ValueError(
            "add_bias_kv and add_zero_attn of MultiheadAttention have no counterpart here; build "
            "the model without them (softmax-sink learns what add_zero_attn fixes)"
        )
    if old._qkv_same_embed_dim:
        weights = old.in_proj_weight.chunk(3)
    else:
        weights = (old.q_proj_weight, old.k_proj_weight, old.v_proj_weight)
    biased = old.in_proj_bias is not None
    biases = old.in_proj_bias.chunk(3) if biased else (None, None, None)
    copied: Copied = dict(zip(PROJECTIONS, zip(weights, biases, strict=True), strict=False))
    copied["out_proj"] = (old.out_proj.weight, old.out_proj.bias)
    kept = {"dropout": old.dropout, "bias": biased} | _widths(old.embed_dim, old.kdim, old.vdim)
    return (old.embed_dim, old.num_heads), kept, copied


def _of_host(old: Any) -> tuple[tuple[int, int], dict[str, Any], Copied]:
    """Sizes, options and projections of the attention of one of transformers' vision models."""
    width, heads = old.q_proj.in_features, old.num_attention_heads
    if heads * old.head_dim != width:
        raise ValueError(
            f"this attention has {heads} heads of {old.head_dim} features for {width} of its "
            "model, which Resonant's modules do not; choose other layers"
        )
    projections = dict(
        zip(PROJECTIONS, (old.q_proj, old.k_proj, old.v_proj, old.o_proj), strict=True)
    )
    copied: Copied = {name: (each.weight, each.bias) for name, each in projections.items()}
    return (width, heads), {"dropout": old.attention_dropout}, copied


def _of_ours(
    old: Attention | LinearAttention,
) -> tuple[tuple[int, int], dict[str, Any], Copied]:
    """Sizes, options and projections of one of ours; position and gate are copied."""
    kept = {
        "dropout": old.dropout,
        "bias": old.q_proj.bias is not None,
        **_widths(old.embed_dim, old.k_proj.in_features, old.v_proj.in_features),
        "num_key_value_heads": old.num_key_value_heads,
        "scalars_per": getattr(old, "scalars_per", "head"),
        "neighborhood": old.neighborhood,
        "top_k": old.top_k,
        "position": copy.deepcopy(old.position),
        "gate": copy.deepcopy(old.gate),
    }
    projections = {name: getattr(old, name) for name in PROJECTIONS}
    copied: Copied = {name: (each.weight, each.bias) for name, each in projections.items()}
    return (old.embed_dim, old.num_heads), kept, copied
