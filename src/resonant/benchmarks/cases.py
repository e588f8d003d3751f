"""What is measured: steps by name, each a forward and a backward in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

import resonant

from ..functional import (
    Causal,
    attend,
    clock,
    clock_attention,
    coupling_lift,
    energy_gate,
    gaussian_locality,
    krause_lift,
    manifold,
    oscillate,
    oscillator_frequencies,
    rotary_frequencies,
    softmax_lift,
)
from ..functional.attend import Path
from ..functional.clock import DIFFUSION, FLOOR
from ..models.frame_configs import CrossAttentionConfig, FrameTransformerConfig
from ..models.frames import FrameTransformer
from ..models.language_configs import AttentionConfig, preset
from .plain_model import PlainModel

THREADS = 2
Step = Callable[[], object]


def set_threads(count: int) -> None:
    """Compute on ``count`` threads."""
    torch.set_num_threads(count)


def _tensors(batch: int, length: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, 8, length, 64, requires_grad=True) for _ in range(3)]


def sdpa(batch: int, length: int) -> Step:
    """Fused causal SDPA, the yardstick."""
    query, key, value = _tensors(batch, length)

    def step() -> None:
        F.scaled_dot_product_attention(query, key, value, is_causal=True).sum().backward()

    return step


def krause(
    batch: int,
    length: int,
    *,
    window: int | None = None,
    first: int = 0,
    top_k: int | None = None,
    path: Path | None = None,
    masked: bool = False,
) -> Step:
    """Krause attention, causal; ``masked``: with the usual causal mask besides."""
    query, key, value = _tensors(batch, length)
    sigma = torch.full((8,), 8.0, requires_grad=True)
    mask = torch.ones(length, length, dtype=torch.bool).tril() if masked else None

    def step() -> None:
        lift = krause_lift(query, key, value, sigma)
        options: dict[str, Any] = {"top_k": top_k, "attn_mask": mask, "path": path or "auto"}
        attend(lift, Causal(window, first=first), **options).sum().backward()

    return step


def gate(batch: int, length: int, path: Path | None = None) -> Step:
    """Softmax with an energy gate, causal; energies are given."""
    query, key, value = _tensors(batch, length)
    energy = torch.randn(batch, 8, length, requires_grad=True)
    alpha, tau = torch.full((8,), 2.0, requires_grad=True), torch.zeros(8, requires_grad=True)

    def step() -> None:
        lift = energy_gate(softmax_lift(query, key, value), energy, alpha, tau)
        attend(lift, Causal(), path=path or "auto").sum().backward()

    return step


def kuramoto(batch: int, length: int, path: Path | None = None) -> Step:
    """Kuramoto coupling, causal, with drift: 64 phases a head, so features twice as wide."""
    torch.manual_seed(0)
    phase, gate = (torch.randn(batch, 8, length, 64, requires_grad=True) for _ in range(2))
    beta = torch.full((8,), 1.4, requires_grad=True)
    angle = torch.arange(length).unsqueeze(-1) * rotary_frequencies(128).float()
    circle = manifold("circle")

    def velocity() -> torch.Tensor:  # what it holds is freed before the backward pass
        x = circle.embed(phase.unsqueeze(-2))
        turned = circle.turn(x, angle)
        lift = coupling_lift(turned, turned, x, beta, gate=gate)
        mean = attend(lift, Causal(), path=path or "auto")
        return circle.tangent(x, mean.unflatten(-1, (2, -1)))

    def step() -> None:
        velocity().sum().backward()

    return step


def locality(batch: int, length: int) -> Step:
    """Softmax with a Gaussian locality, causal."""
    query, key, value = _tensors(batch, length)
    ell = torch.full((8,), 64.0, requires_grad=True)

    def step() -> None:
        lift = gaussian_locality(softmax_lift(query, key, value), ell)
        attend(lift, Causal()).sum().backward()

    return step


def oscillators(batch: int, length: int, width: int = 64) -> Step:
    """Softmax with eight reference oscillators, causal; ``width`` features beside theirs."""
    query, key, value = _tensors(batch, length)
    query, key = (x.detach()[..., :width].clone().requires_grad_() for x in (query, key))
    amplitude, phase = (torch.full((8, 8), start, requires_grad=True) for start in (0.7, -0.5))
    omega = oscillator_frequencies(8)

    def step() -> None:
        lift = oscillate(softmax_lift(query, key, value), omega, amplitude, phase)
        attend(lift, Causal()).sum().backward()

    return step


def clocks(length: int, path: Path | None = None) -> Step:
    """Normalized clocks, as many frames as tokens, at the spread they start with."""
    torch.manual_seed(0)
    rates = [(torch.rand(1, 8, length) + 0.5).requires_grad_() for _ in range(2)]
    value = torch.randn(1, 8, length, 64, requires_grad=True)
    scalars = [torch.full((8,), start, requires_grad=True) for start in (DIFFUSION, FLOOR)]

    def step() -> None:
        query, key = (clock(rate) for rate in rates)
        options: dict[str, Any] = {"diffusion": scalars[0], "floor": scalars[1]}
        clock_attention(query, key, value, path=path or "auto", **options).sum().backward()

    return step


def frames(count: int, *, listen: bool, batch: int = 8) -> Step:
    """A training step from 24 symbols to ``count`` frames by running clocks, 0.2M parameters."""
    torch.manual_seed(0)
    attention = CrossAttentionConfig("clock", listen=listen, tempo=listen)
    hidden = 125 if listen else 165
    config = FrameTransformerConfig(
        decoding="autoregressive", position="none", attention=attention, hidden=hidden
    )
    model = FrameTransformer(config)
    symbols, given = torch.randint(0, 20, (batch, 24)), torch.randn(batch, count, 20)
    padding = torch.zeros(batch, count, dtype=torch.bool)

    def step() -> None:
        model(symbols, padding, frames=given).frames.sum().backward()

    return step


def decode(context: int) -> Step:
    """Sixteen tokens, one by one, of a windowed language model after ``context`` tokens."""
    torch.manual_seed(0)
    config = preset("0.8M")
    model = resonant.language_model(
        config, attention=AttentionConfig("krause", window=128, gate="energy")
    ).eval()
    cache = model.new_cache()
    with torch.no_grad():
        model(torch.randint(0, 66, (1, context)), cache=cache)

    @torch.no_grad()
    def step() -> None:
        for _ in range(16):
            model(torch.zeros(1, 1, dtype=torch.long), cache=cache)

    return step


def llama(context: int, neighborhood: Causal | None = None, mechanism: str = "softmax") -> Step:
    """Sixteen tokens, one by one, of a Llama of six layers after ``context`` tokens.

    With a neighbourhood it attends so, and its cache holds no more than that.
    """
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    from ..integrations import use_attention, windowed_cache

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "max_position_embeddings": 16384,
    }
    heads: dict[str, Any] = {
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 6,
    }
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=256, **sizes, **heads)).eval()
    cache: Any = DynamicCache()
    if neighborhood is not None:
        use_attention(model, mechanism, neighborhood=neighborhood, check=False)
        cache = windowed_cache(model)
    with torch.no_grad():
        model(torch.randint(0, 256, (1, context)), past_key_values=cache)

    @torch.no_grad()
    def step() -> None:
        for _ in range(16):
            model(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)

    return step


def language_step(model: torch.nn.Module, batch: int = 16) -> Step:
    """A training step of a language model, optimiser included."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 66, (batch, 129))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        logits = model(tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def phases(name: str) -> Step:
    """The phase language model of a preset, over 66 characters."""
    return language_step(resonant.phase_language_model(name), batch=8)


def matched(name: str) -> Step:
    """The transformer of the same preset."""
    return language_step(resonant.language_model(name), batch=8)


def ours() -> Step:
    """The 0.8M baseline of this library, over bytes."""
    return language_step(resonant.language_model("0.8M", vocabulary=256))


def plain() -> Step:
    """The same in plain PyTorch."""
    return language_step(PlainModel(256, layers=4, width=128, heads=4, hidden=344))


CASES: dict[str, Callable[[], Step]] = {
    "sdpa-1024": partial(sdpa, 4, 1024),
    "sdpa-4096": partial(sdpa, 1, 4096),
    "krause-1024": partial(krause, 4, 1024),
    "krause-4096": partial(krause, 1, 4096),
    "krause-4096-materialized": partial(krause, 1, 4096, path="materialized"),
    "window-4096": partial(krause, 1, 4096, window=128),
    "window-16384": partial(krause, 1, 16384, window=128),
    "window64-2048": partial(krause, 1, 2048, window=64),
    "window64-2048-masked": partial(krause, 1, 2048, window=64, masked=True),
    "first-4096": partial(krause, 1, 4096, window=128, first=4),
    "first-16384": partial(krause, 1, 16384, window=128, first=4),
    "topk-4096": partial(krause, 1, 4096, window=128, top_k=96),
    "topk-16384": partial(krause, 1, 16384, window=128, top_k=96),
    "gate-1024": partial(gate, 4, 1024),
    "gate-4096": partial(gate, 1, 4096),
    "gate-4096-materialized": partial(gate, 1, 4096, path="materialized"),
    "locality-1024": partial(locality, 4, 1024),
    "oscillators-1024": partial(oscillators, 4, 1024),
    "oscillators-48-1024": partial(oscillators, 4, 1024, 48),
    "locality-4096": partial(locality, 1, 4096),
    "locality-16384": partial(locality, 1, 16384),
    "clocks-4096": partial(clocks, 4096),
    "clocks-16384": partial(clocks, 16384),
    "clocks-4096-materialized": partial(clocks, 4096, path="materialized"),
    "running-100": partial(frames, 100, listen=False),
    "listening-100": partial(frames, 100, listen=True),
    "listening-1000": partial(frames, 1000, listen=True, batch=1),
    "listening-4000": partial(frames, 4000, listen=True, batch=1),
    "kuramoto-1024": partial(kuramoto, 4, 1024),
    "kuramoto-4096": partial(kuramoto, 1, 4096),
    "kuramoto-4096-materialized": partial(kuramoto, 1, 4096, path="materialized"),
    "phases-0.36M": partial(phases, "0.36M"),
    "matched-0.36M": partial(matched, "0.36M"),
    "phases-0.8M": partial(phases, "0.8M"),
    "matched-0.8M": partial(matched, "0.8M"),
    "decode-256": partial(decode, 256),
    "decode-8192": partial(decode, 8192),
    "llama-256": partial(llama, 256),
    "llama-4096": partial(llama, 4096),
    "llama-window-256": partial(llama, 256, Causal(252, first=4)),
    "llama-window-4096": partial(llama, 4096, Causal(252, first=4)),
    "llama-krause-4096": partial(llama, 4096, Causal(252, first=4), "krause"),
    "model": ours,
    "plain-model": plain,
}
