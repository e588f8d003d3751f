"""Our mechanisms as an attention of transformers: function, mask, learned scalars, self-test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import Certificate
from ..functional.lift import Lift
from ..functional.mask import blocked
from ..functional.neighborhood import Full, Neighborhood
from ..functional.softmax import softmax_lift
from ..nn.energy import EnergyGate
from ..nn.parameter import input_dtype
from .decoder import HostedMechanism, check_first, hosted_attend, hosted_weights, restarts
from .libraries import need
from .record import USED, check_options, forget, remember
from .replacement import like
from .self_test import LACKS, self_test
from .swap import chosen_layers

NAME = "resonant"  # of the attention in transformers, and of the module inside each attention
BEFORE = "_attention_before_resonant"  # in the model's own dictionary
INTERFACE = "ALL_ATTENTION_FUNCTIONS"  # what forward asks, of attention that can be told
REFUSED = {
    "softcap": "caps on logits",
    "s_aux": "learned sinks of its own",
    "position_bias": "a bias by position",
}

# By what a host holds, under which of these names it hands that on.
EXTRAS = {
    "attn_logit_softcapping": "softcap",
    "sinks": "s_aux",
    "relative_attention_bias": "position_bias",
}

_recorded: dict[nn.Module, Any] | None = None
_keep: Callable[[Tensor], Any] = lambda weights: weights  # noqa: E731 (replaced while recording)
_measured: dict[nn.Module, tuple[Tensor, Tensor]] | None = None


class Gap(int):
    """How many tokens a cache has let go between its first keys and its window."""


class InterfaceMechanism(HostedMechanism):
    """What an attention of transformers attends with: a mechanism, and an energy gate.

    transformers hands on projected heads, never hidden states, so the gate's energies are
    ``e_j = w . [v_j of all heads]``, per key head.
    """

    def __init__(
        self, mechanism_name: str, sizes: tuple[int, int, int], *, gate: str | None, **options: Any
    ) -> None:
        heads, key_heads, head_dim = sizes
        super().__init__(mechanism_name, heads, **options)
        self.gate = None
        if gate is not None:
            self.gate = EnergyGate(key_heads * head_dim, key_heads, standardize=gate)  # type: ignore[arg-type]

    def gated(self, lift: Lift, value: Tensor, mask: Tensor | None, position: Any) -> Lift:
        """The lift with its keys gated by their values."""
        if self.gate is None:
            return lift
        source = value.transpose(1, 2).flatten(2)
        padding = None
        if mask is not None:
            taken = mask if mask.dtype == torch.bool else ~blocked(mask)
            # A key that no query may see is padding, or room that a cache keeps free.
            padding = ~taken.any(2).any(1).expand(lift.key.shape[0], -1)[:, : lift.key.shape[2]]
        documents = None
        if position is not None and position.shape[-1] == lift.key.shape[2]:
            documents = restarts(position).cumsum(-1)
        source = source.to(input_dtype(self.gate.energy))
        return self.gate(lift, source, key_padding_mask=padding, documents=documents)


def register_attention() -> str:
    """Make "resonant" an attention of transformers, with its masks; returns the name.

    Then ``from_pretrained(..., attn_implementation="resonant")`` and
    ``model.set_attn_implementation("resonant")`` are possible: layers without a mechanism of ours
    run softmax, as before. ``use_attention`` does this and the rest in one call. Both the attention
    and the mask function are registered: with the first alone transformers makes no masks, and
    padding and causality are lost without a word.
    """
    transformers = need("transformers")
    transformers.AttentionInterface.register(NAME, attention_forward)
    transformers.AttentionMaskInterface.register(NAME, attention_mask)
    return NAME


def use_attention(
    model: Any,
    mechanism: str,
    *,
    layers: Sequence[int | str] | int | str | None = None,
    gate: str | None = None,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
    check: bool = True,
    **scalars: float,
) -> Certificate | None:
    """Let a model of transformers attend by ``mechanism``, and certify it; returns the certificate.

    Registers attention and masks, gives each chosen attention its learned scalars (per head, in a
    module ``resonant``, so that they are trained and saved) and, with ``gate`` "prefix" or "none",
    an ``EnergyGate`` that standardizes so, and switches the model over. Grouped queries, sliding
    layers, padding, every cache and ``generate`` work as before. ``layers`` chooses as in
    ``resonant.swap``; ``neighborhood``, ``top_k`` and ``scalars`` (``sigma=5.5``) go to each.

    With ``check`` the self-test of ``resonant check`` is run on this very model with random tokens:
    causality, padding, cache. Where it fails what it did not fail before, the model is put back and
    ``ValueError`` says what. With or without it, a layer that does not attend through the interface
    is refused.
    ``drop_attention`` puts it back; so does, without the scalars, ``set_attn_implementation``.
    In bfloat16 rounding changes whom a sharp ``top_k`` keeps, which the self-test may refuse.

    What is set up stands in ``model.config.resonant`` and is saved with the model;
    ``restore_attention`` brings it back. Raises ``ValueError`` for a model without such attention
    and an unknown mechanism or layer, ``TypeError`` for an option that there is not, ``UserError``
    without transformers.
    """
    if not hasattr(model, "set_attn_implementation"):
        raise ValueError(
            f"{type(model).__name__} is no model of transformers; resonant.swap is for others"
        )
    if gate is not None and gate not in ("prefix", "none"):
        raise ValueError(f"gate is prefix, none (how it standardizes), or None; it is {gate!r}")
    check_options(scalars)
    hosts = _hosts(model)
    names = chosen_layers(layers, list(hosts))
    options = {"gate": gate, "neighborhood": neighborhood, "top_k": top_k, **scalars}
    made = {n: InterfaceMechanism(mechanism, _sizes(hosts[n]), **options) for n in names}
    for name in names:
        _check_gate(name, hosts[name], gate)
        check_first(hosts[name], name, neighborhood)
        _check_interface(name, hosts[name])
        _check_extras(name, hosts[name])
        if hasattr(hosts[name], NAME):
            raise ValueError(
                f"{name} attends by ours already; drop_attention takes all such layers back first"
            )
    model.__dict__.setdefault(BEFORE, implementations(model))
    try:
        for name, module in made.items():
            weight = like(hosts[name], name)
            hosts[name].add_module(NAME, module.to(weight.device).train(hosts[name].training))
        model.set_attn_implementation(register_attention())
        certificate = None
        if check:
            tested = {hosts[name]: name for name in names}
            contexts = {"before": partial(_as_before, model), "watch": recorded_weights}
            certificate = self_test(model, tested, **contexts)
    except BaseException:
        _take_back(model, [name for name in names if hasattr(hosts[name], NAME)])
        raise
    remember(model, USED, names, mechanism=mechanism, options=options)
    return certificate


def drop_attention(model: Any) -> list[str]:
    """Put back the attention that ``model`` had before ``use_attention``; returns the layers.

    Raises ``ValueError`` for a model that attends as it always did.
    """
    found = [name for name, module in model.named_modules() if hasattr(module, NAME)]
    if not found:
        raise ValueError("no layer of this model attends by ours; use_attention first")
    _take_back(model, found)
    forget(model, USED, found)
    return found


def _take_back(model: Any, names: list[str]) -> None:
    for name in names:
        delattr(model.get_submodule(name), NAME)
    if not any(hasattr(module, NAME) for module in model.modules()):
        model.set_attn_implementation(model.__dict__.pop(BEFORE))


def implementations(model: Any) -> dict[str, str | None]:
    """The attention implementations of a model and of its parts, as it takes them back."""
    config = model.config
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    own = {n: part._attn_implementation for n, part in parts.items() if part is not None}
    return {"": config._attn_implementation, **own}


def attention_mask(
    *,
    q_length: int,
    kv_length: int,
    allow_is_causal_skip: bool = True,
    **options: Any,
) -> Tensor | None:
    """Masks as SDPA of transformers has them, left out only where both causal corners agree.

    Raises ``ValueError`` for padding beside a cache that keeps first keys and a window alone.
    """
    from transformers.masking_utils import sdpa_mask

    padding = options.get("attention_mask")
    if isinstance(options.get("kv_offset"), Gap) and padding is not None and not padding.all():
        raise ValueError(
            "a windowed cache takes no padding, whose first keys differ from row to row; give rows "
            "of one length, one by one else, or another cache"
        )
    # With room or a past beside the queries, None would leave open where they stand.
    skip = allow_is_causal_skip and q_length == kv_length
    return sdpa_mask(q_length=q_length, kv_length=kv_length, allow_is_causal_skip=skip, **options)


def attention_forward(
    module: nn.Module,
    *tensors: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_ids: Tensor | None = None,
    **given: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls with query, key, value (batch, head, token, dim) and a mask or None.

    The output is (batch, token, head, dim), the weights None unless transformers collects them
    (``output_attentions=True``).

    Raises ``ValueError`` for what softmax over heads is not all of (caps on logits, learned sinks).
    """
    query, key, value, attention_mask = tensors
    if _measured is not None:
        _measured[module] = (key.norm(dim=-1), value.norm(dim=-1))
    _refuse(module, given, (query.shape[2], key.shape[2]))
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    own: InterfaceMechanism | None = getattr(module, NAME, None)
    options: dict[str, Any] = {"causal": causal}
    if own is None:
        lift = softmax_lift(query, key, value, scale=scaling)
    else:
        # Every mechanism lifts raw queries; where the host scales otherwise than softmax does,
        # or has scaled them already, its logits are those of queries so much longer.
        longer = 1.0 if scaling is None else scaling * query.shape[-1] ** 0.5
        query = query if abs(longer - 1.0) < 1e-6 else query * longer
        lift = own.gated(own.lift(query, key, value), value, attention_mask, position_ids)
        options |= {"neighborhood": own.neighborhood, "top_k": own.top_k}
    weights = None
    if _recorded is not None or _collects_weights(given):
        weights = hosted_weights(lift, attention_mask, **options)
        if _recorded is not None:
            _recorded[module] = _keep(weights)
    output = hosted_attend(lift, attention_mask, **options, dropout_p=dropout)
    if own is not None:
        output = own.mechanism.read(output, query)
    weights = None if weights is None else weights.to(value.dtype)
    return output.transpose(1, 2).to(value.dtype).contiguous(), weights


def _collects_weights(given: dict[str, Any]) -> bool:
    """Whether the model was called with ``output_attentions=True``, however it says so."""
    from transformers.utils import output_capturing

    collected = output_capturing._active_collector.get() or ()
    return bool(given.get("output_attentions")) or any("attentions" in name for name in collected)


def _refuse(module: nn.Module, given: dict[str, Any], sizes: tuple[int, int]) -> None:
    """Raise ``ValueError`` for options of a host's attention that ours would leave out."""
    for name, value in given.items():
        what = REFUSED.get(name, "something added to its logits")
        shaped = isinstance(value, Tensor) and value.is_floating_point()
        shaped = shaped and tuple(value.shape[-2:]) == sizes
        if value is not None and (name in REFUSED or shaped):
            raise ValueError(
                f"{type(module).__name__} has {what} ({name}), {LACKS}; "
                "choose another model, or other layers"
            )


@contextmanager
def recorded_weights(
    keep: Callable[[Tensor], Any] = lambda weights: weights,
) -> Iterator[dict[nn.Module, Any]]:
    """Collect the weights (batch, head, query, key) of every attention called inside the block.

    ``keep`` makes of them what is held.
    """
    global _recorded, _keep
    outer, _recorded, _keep = (_recorded, _keep), {}, keep
    try:
        yield _recorded
    finally:
        _recorded, _keep = outer


@contextmanager
def recorded_norms() -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Collect the norms (batch, key_head, key) of keys and values of every attention called."""
    global _measured
    outer, _measured = _measured, {}
    try:
        yield _measured
    finally:
        _measured = outer


def _hosts(model: nn.Module) -> dict[str, Any]:
    """Attention of transformers that may attend through its interface, by name."""
    found = {
        name: module
        for name, module in model.named_modules()
        if type(module).__module__.startswith("transformers.")
        and hasattr(module, "config")
        and hasattr(module, "is_causal")
    }
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no attention that goes through the interface of "
            "transformers; resonant.swap is for ViT, Llama and Qwen, nn.HeadAttention for a model "
            "of one's own"
        )
    return found


def _check_interface(name: str, host: Any) -> None:
    """Raise ``ValueError`` for attention that never asks for the interface of transformers."""
    forwards = (
        inspect.unwrap(c.__dict__["forward"]) for c in type(host).__mro__ if "forward" in c.__dict__
    )
    named = {
        word for each in forwards if hasattr(each, "__code__") for word in each.__code__.co_names
    }
    if INTERFACE not in named:
        raise ValueError(
            f"{name} ({type(host).__name__}) computes attention by itself and not through the "
            "interface of transformers, so nothing would change; choose other layers, or put "
            "resonant.nn.HeadAttention where it attends"
        )


def _check_extras(name: str, host: Any) -> None:
    """Raise ``ValueError`` for attention with more than softmax over heads, by what it holds."""
    for attribute, argument in EXTRAS.items():
        held = getattr(host, attribute, None)
        if held is not None and held is not False:
            raise ValueError(
                f"{name} ({type(host).__name__}) has {REFUSED[argument]} ({attribute}), {LACKS}; "
                "choose another model, or other layers"
            )


def _sizes(host: Any) -> tuple[int, int, int]:
    """Query heads, key heads, and features of a head."""
    config = host.config
    names = ("num_heads", "num_attention_heads")
    heads = next((getattr(host, n) for n in names if hasattr(host, n)), None)
    heads = heads or config.num_attention_heads
    groups = getattr(host, "num_key_value_groups", 1)
    head_dim = getattr(host, "head_dim", None) or config.hidden_size // heads
    return heads, heads // groups, head_dim


def _check_gate(name: str, host: Any, gate: str | None) -> None:
    if gate == "prefix" and getattr(host, "sliding_window", None) is not None:
        raise ValueError(
            f"{name} slides: its cache forgets keys that a gate's prefix counts; use gate='none', "
            "or leave such layers out with layers="
        )


@contextmanager
def _as_before(model: Any) -> Iterator[None]:
    """Inside the block the model attends as it did before ``use_attention``."""
    model.set_attn_implementation(model.__dict__[BEFORE])
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)
