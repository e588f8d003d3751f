"""The module that ``swap`` puts in the place of another: its sizes, options and weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.neighborhood import Full
from ..mechanism import mechanism as find
from ..nn.attention import Attention
from ..nn.factory import attention
from ..nn.linear import LinearAttention
from .decoder import HostedDecoderAttention, is_decoder
from .hosted import HostedAttention, is_host
from .multihead import HostedMultihead

# What a replacement has as its predecessor had it: its weights are of that size.
OF_THE_OLD = ("embed_dim", "num_heads", "bias", "kdim", "vdim", "batch_first")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def replacement(old: nn.Module, mechanism: str, options: dict[str, Any]) -> nn.Module:
    """Make what stands for ``old`` with ``mechanism``; its projections copied.

    Raises ``ValueError`` where ``old`` has what Resonant lacks, ``TypeError`` for an option that
    there is not.
    """
    if isinstance(old, HostedAttention):
        return HostedAttention(replacement(old.attention, mechanism, options))  # type: ignore[arg-type]
    if isinstance(old, HostedMultihead):
        new = replacement(old.attention, mechanism, options)
        return HostedMultihead(new, batch_first=old.batch_first)  # type: ignore[arg-type]
    if is_decoder(old) or isinstance(old, HostedDecoderAttention):
        return _decoder(old, mechanism, options)
    sizes, kept, copied = _of(old)
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
    fixed = [name for name in OF_THE_OLD if name in options]
    if fixed:
        raise TypeError(
            f"{fixed[0]} is that of the attention which is replaced, whose weights are kept; leave "
            "it out"
        )
    options = {n: copy.deepcopy(x) if isinstance(x, nn.Module) else x for n, x in options.items()}
    if "neighborhood" in options:
        own = kept.get("cross_neighborhood") or kept.get("neighborhood") or Full()
        kept["cross_neighborhood"] = None if is_host(old) else own
    new = attention(mechanism, *sizes, **(kept | options))
    model = like(old, type(old).__name__)
    new.to(device=model.device, dtype=model.dtype)
    if isinstance(new, (Attention, LinearAttention)):
        _copy(copied, new)
    _copy_scalars(old, new, [name for name in options if name != "scalars_per"])
    if isinstance(old, nn.MultiheadAttention):
        return HostedMultihead(new, batch_first=old.batch_first)  # type: ignore[arg-type]
    return HostedAttention(new) if is_host(old) else new  # type: ignore[arg-type]


def like(old: nn.Module, name: str) -> Tensor:
    """Find a weight of a module, of whose device and dtype its replacement is to be.

    Raises ``ValueError`` for a module that holds none, as a quantized one.
    """
    found = next(old.parameters(), None)
    if found is None:
        raise ValueError(
            f"{name} holds no weights that could be taken over (is it quantized?); set up the "
            "attention first, then quantize, or leave this layer out"
        )
    return found


def _of(old: nn.Module) -> tuple[tuple[int, int], dict[str, Any], Copied]:
    """Sizes, options and projections of attention."""
    if is_host(old):
        return _of_host(old)
    if isinstance(old, nn.MultiheadAttention):
        return _of_torch(old)
    if isinstance(old, (Attention, LinearAttention)):
        return _of_ours(old)
    raise ValueError(
        "a PhaseAdapter has no queries, keys and values to give to another mechanism; unswap it "
        "first, or choose other layers"
    )


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
        kept |= {"neighborhood": old.resonant.neighborhood, "top_k": old.resonant.top_k}
    new = HostedDecoderAttention(old, mechanism, **(kept | options))
    new.resonant.to(device=like(old, type(old).__name__).device)
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
        "cross_neighborhood": old.cross_neighborhood,
        "top_k": old.top_k,
        "position": copy.deepcopy(old.position),
        "gate": copy.deepcopy(old.gate),
    }
    projections = {name: getattr(old, name) for name in PROJECTIONS}
    copied: Copied = {name: (each.weight, each.bias) for name, each in projections.items()}
    return (old.embed_dim, old.num_heads), kept, copied
