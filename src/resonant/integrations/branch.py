"""A second attention beside the pretrained one in Llama, Qwen2 and Qwen3, and what mixes them."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..functional.attend import attend
from ..functional.lift import Lift
from ..functional.neighborhood import Causal
from ..mechanism import branching, mechanism
from ..models.fields import check_choice
from ..nn.cache import AttentionCache
from ..nn.parameter import HeadScalar
from .decoder import DecoderHeads, Turn, restarts
from .families import decoder_attentions
from .record import BRANCHED, forget, remember
from .replacement import like

STARTS = ("identity", "mix")
NAME = "krause_branch"  # of the module inside each attention
PRETRAINED_SHARE = 4.0  # odds of the pretrained attention in the mixture, at the start
MIXING_SPREAD = 0.01  # standard deviation of the mixture's weights, at the start


_numbers = itertools.count()  # of branches: a cache is filled by one alone


@dataclass(frozen=True)
class BranchConfig:
    """What ``add_krause_branch`` was told: see there.

    Raises ``ValueError`` for a number below its least and an unknown name.
    """

    window: int | None = 32
    top_k: int | None = 16
    sigma: float = 5.5
    start: str = "identity"
    mechanism: str = "krause"

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        check_choice("mechanism", self.mechanism, branching())
        for name in ("window", "top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} counts keys, so it is at least 1; it is {value}")
        if not self.sigma > 0:
            raise ValueError(f"sigma is a width and must be above 0; it is {self.sigma}")
        if not mechanism(self.mechanism).scalars and self.sigma != BranchConfig.sigma:
            raise ValueError(f"{self.mechanism} has no sigma, but sigma is {self.sigma}")


class AttentionBranch(DecoderHeads):
    """Windowed attention with projections of its own, beside the pretrained attention ``host``.

    ``[w_s, w_k] = softmax(W [out_s; out_k] + b)`` of the two outputs, W ~ N(0, 0.01), b = [log 4,
    0]. With the start "mix" the layer gives ``w_s out_s + w_k out_k`` (as published), with
    "identity" ``out_s + gamma w_k (out_k - out_s)``, gamma = 0 at the start: exactly the pretrained
    output, as long as the branch's own is a finite number.

    Projections (and Qwen3's norms of heads) are copies of the pretrained ones, biases where those
    have them. Rotary positions are the host's. Distances are float32 or better. Attention
    dropout is that of the host's configuration. In a sliding layer the window is the host's where
    that is narrower.

    Source: arXiv 2602.11534, section on language models. Differs from the public script, which
    gives Llama biases at random, keeps sigma where PEFT freezes it, and has no cache and no mask.
    """

    def __init__(self, host: Any, config: BranchConfig) -> None:
        super().__init__(host)
        self.config, self.number = config, next(_numbers)
        limits = [w for w in (config.window, getattr(host, "sliding_window", None)) if w]
        self.neighborhood = Causal(min(limits) if limits else None)
        width, device = host.o_proj.out_features, host.o_proj.weight.device
        self.mixing = nn.Linear(2 * width, 2, device=device)
        with torch.no_grad():
            self.mixing.weight.normal_(std=MIXING_SPREAD)
            self.mixing.bias.copy_(torch.tensor([PRETRAINED_SHARE, 1.0]).log())
        self.mechanism = mechanism(config.mechanism)
        if self.mechanism.scalars:
            self.sigma = HeadScalar(self.num_heads, config.sigma, positive=True).to(device)
        if config.start == "identity":
            self.gamma = HeadScalar(1, 0.0, positive=False).to(device)

    @property
    def scalars(self) -> list[str]:
        """Names of the modules that learn from scratch: whole, not by a low rank."""
        return [name for name in ("sigma", "gamma", "mixing") if hasattr(self, name)]

    def lift(self, hidden: Tensor, turn: Turn) -> Lift:
        """Heads of ``hidden``, turned by the host's rotation, lifted in float32 or better."""
        scalars = {"sigma": self.sigma()} if self.mechanism.scalars else {}
        return self.mechanism.lift(*self.heads(hidden, turn), **scalars)

    def attended(
        self,
        hidden: Float[Tensor, "batch token embed"],
        turn: Turn,
        mask: Tensor | None,
        *,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """The branch's own output (batch, token, embed).

        ``mask`` is the host's: (batch or 1, head or 1, query, key) or (batch, key), True = takes
        part; its last columns are those of the keys that the branch still holds.
        """
        lift = self.lift(hidden, turn)
        before = 0 if cache is None else cache.length
        if cache is not None:
            lift = cache.update(lift)
        sizes = (before + lift.query.shape[2], lift.key.shape[2])
        options = {
            "neighborhood": self.neighborhood,
            "attn_mask": _columns(mask, *sizes),
        }
        self.watch(lift, options)
        dropout_p = self.attention_dropout if self.training else 0.0
        heads = attend(lift, **options, top_k=self.config.top_k, dropout_p=dropout_p)
        return self.merged(heads, hidden)

    def watch(self, lift: Lift, options: dict[str, Any]) -> None:
        """Hook for diagnostics: what the branch is about to attend with."""

    def forward(
        self,
        pretrained: Float[Tensor, "batch token embed"],
        own: Float[Tensor, "batch token embed"],
    ) -> Float[Tensor, "batch token embed"]:
        """The two outputs mixed."""
        dtype = next(self.mixing.parameters()).dtype
        share = self.mixing(torch.cat([pretrained, own], dim=-1).to(dtype)).softmax(-1)
        if self.config.start == "mix":
            mixed = share[..., :1] * pretrained + share[..., 1:] * own
            return mixed.to(pretrained.dtype)
        change = self.gamma() * share[..., 1:] * (own - pretrained)
        return pretrained + change.to(pretrained.dtype)

    def extra_repr(self) -> str:
        return ", ".join(f"{n}={v!r}" for n, v in dataclasses.asdict(self.config).items())


def _columns(mask: Tensor | None, tokens: int, held: int) -> Tensor | None:
    """The columns of the last ``held`` of ``tokens`` keys.

    A host with a static cache has columns for keys to come, a sliding one none for old keys.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise ValueError(
            f"the branch reads masks as tensors, not as {type(mask).__name__}; load the model with "
            "attn_implementation='sdpa'"
        )
    if mask.dim() == 2:
        mask = mask[:, None, None, :].bool()
    end = min(tokens, mask.shape[-1])
    return mask[..., max(0, end - held) : end]


def branches(model: nn.Module) -> dict[str, AttentionBranch]:
    """The branches of ``model`` by the name of the attention they stand in."""
    named = model.named_modules()
    return {name.removesuffix(f".{NAME}"): m for name, m in named if isinstance(m, AttentionBranch)}


def add_krause_branch(
    model: nn.Module,
    *,
    window: int | None = 32,
    top_k: int | None = 16,
    sigma: float = 5.5,
    start: str = "identity",
    mechanism: str = "krause",
) -> list[str]:
    """Give every layer of a Llama, Qwen2 or Qwen3 a branch of Krause attention; returns the layers.

    The pretrained attention stays as it is; the branch (``AttentionBranch``) looks at the
    ``window`` last keys, keeps the ``top_k`` nearest of them, and has ``sigma`` per head. With
    ``start`` "identity" the model computes at first, bit for bit, what it did before; with "mix"
    the branch has a share of about a fifth at once, as published. ``mechanism`` "softmax" is the
    control: the same branch and mask with softmax in Krause's place.

    Works with padding on either side, ``generate`` with beams, and every cache of transformers: the
    branch keeps its window of keys in the very cache that the model is called with. Assisted
    decoding, which takes tokens back, is refused. Add adapters of PEFT afterwards
    (``lora_config``). ``remove_krause_branch`` takes the branches out; ``save_branch`` writes
    them alone, and ``restore_attention`` brings them back.

    Raises ``ValueError`` for other models, a model that has branches or adapters, and options out
    of range.
    """
    config = BranchConfig(window, top_k, sigma, start, mechanism)
    return attach(model, config)


def attach(model: nn.Module, config: BranchConfig) -> list[str]:
    """``add_krause_branch`` with its options as one value."""
    hosts = decoder_attentions(model)
    if branches(model):
        raise ValueError("the model has branches already; remove_krause_branch takes them out")
    if any(type(module).__module__.startswith("peft.") for module in model.modules()):
        raise ValueError(
            "the model carries adapters, which a branch would copy; add the branch first, then the "
            "adapters (merge or unload those that are there)"
        )
    for name, host in hosts.items():
        like(host, name)
        branch = AttentionBranch(host, config).train(host.training)
        host.add_module(NAME, branch)
        # An attribute of the host, no module: what takes the hook away again.
        host.__dict__[f"_{NAME}_hook"] = host.register_forward_hook(blend, with_kwargs=True)
    options = dataclasses.asdict(config)
    remember(model, BRANCHED, list(hosts), mechanism=config.mechanism, options=options)
    return list(hosts)


def remove_krause_branch(model: nn.Module) -> list[str]:
    """Take the branches out; the model computes, bit for bit, what it did without them.

    Returns the names of the layers. Raises ``ValueError`` for a model without branches.
    """
    found = branches(model)
    if not found:
        raise ValueError("the model has no branch; add_krause_branch gives it one")
    for name in found:
        host = model.get_submodule(name)
        host.__dict__.pop(f"_{NAME}_hook").remove()
        delattr(host, NAME)
    forget(model, BRANCHED, list(found))
    return list(found)


def blend(host: Any, inputs: tuple, given: dict[str, Any], output: Any) -> Any:
    """Mix the output of the pretrained attention with that of the branch; a forward hook."""
    branch: AttentionBranch = getattr(host, NAME)
    named = dict(zip(("hidden_states", "position_embeddings", "attention_mask"), inputs)) | given  # noqa: B905
    cache = _cache_of(host, branch, named)
    mask = named.get("attention_mask")
    if mask is None:  # kernels that part packed documents by themselves get no mask
        mask = _of_documents(named.get("position_ids"), named["hidden_states"].shape[1])
    own = branch.attended(named["hidden_states"], named["position_embeddings"], mask, cache=cache)
    return (branch(output[0], own), *output[1:])


def _of_documents(position: Tensor | None, tokens: int) -> Tensor | None:
    """The mask of documents packed in rows, told by positions that go back; None if none do."""
    if position is None or tokens == 1 or position.shape[-1] != tokens:
        return None
    label = restarts(position).cumsum(-1)
    if not label.any():
        return None
    return (label.unsqueeze(-1) == label.unsqueeze(-2)).unsqueeze(1)


def _cache_of(host: Any, branch: AttentionBranch, named: dict[str, Any]) -> AttentionCache | None:
    """The branch's window of keys, kept in the cache of this call.

    Raises ``ValueError`` for a cache that holds tokens which the branch has not seen.
    """
    past = named.get("past_key_values")
    if past is None:
        return None
    from .branch_cache import branched_layer  # transformers

    layer = branched_layer(past, host.layer_idx, branch.neighborhood.window, branch.number)
    before = int(layer.get_seq_length()) - named["hidden_states"].shape[1]
    if layer.branch.length != before:
        raise ValueError(
            f"the cache holds {before} tokens, of which the branch has seen {layer.branch.length}: "
            "it was filled under gradients, before the branch was added, by a learned prefix, or "
            "cut; begin with a new cache, inside torch.no_grad()"
        )
    # Under gradients, as in training with use_cache left on, there is nothing to go on from.
    return None if torch.is_grad_enabled() and _learns(branch, named) else layer.branch


def _learns(branch: AttentionBranch, named: dict[str, Any]) -> bool:
    return named["hidden_states"].requires_grad or any(p.requires_grad for p in branch.parameters())
