"""Positions: rotations of queries and keys, encodings to add, and Gaussian locality."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .lift import Lift
from .neighborhood import positions
from .pair import Gaussian

Convention = Literal["half", "interleaved"]
CONVENTIONS: tuple[Convention, ...] = ("half", "interleaved")

# A Morlet wavelet is admissible (its mean nearly 0) from omega sigma = 5 on; frequencies stay
# below Nyquist's pi. Both bounds as in arXiv 2605.26355.
ADMISSIBLE = 5.0
HIGHEST_OMEGA = 0.95 * math.pi
SMALLEST_SIGMA = ADMISSIBLE / HIGHEST_OMEGA  # 1.675: narrower ones would need omega above Nyquist


def rotary_frequencies(dim: int, base: float = 10_000.0) -> Float[Tensor, "half"]:
    """``omega_c = base ** (-2 c / dim)`` for c < dim / 2, in radians per position, float64.

    An infinite base turns rotation off (all frequencies 0).
    Raises ``ValueError`` for an odd ``dim`` or a base that is not above 1.
    Source: Su et al., RoFormer (arXiv 2104.09864), section 3.2.2.
    """
    if dim % 2:
        raise ValueError(f"positions turn pairs of features: dim must be even, it is {dim}")
    if not base > 1:
        raise ValueError(f"the rotary base must be above 1 (10000 is usual); it is {base}")
    if math.isinf(base):
        return torch.zeros(dim // 2, dtype=torch.float64)
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rotate(
    features: Float[Tensor, "batch head sequence dim"],
    angle: Float[Tensor, "*batch sequence half"],
    *,
    convention: Convention = "half",
) -> Float[Tensor, "batch head sequence dim"]:
    """Turn pairs of features by ``angle[..., c]`` radians: ``[x cos - y sin, y cos + x sin]``.

    The pair (x, y) of angle c is (c, c + dim / 2) by the "half" convention (GPT-NeoX, Llama), and
    (2 c, 2 c + 1) by the "interleaved" one (RoFormer, GPT-J). Weights trained under one make no
    sense under the other. Angles stay in float32 or better; the result has the dtype of
    ``features``. Source: Su et al., RoFormer (arXiv 2104.09864), equation 34.

    Raises ``ValueError`` for an unknown convention or angles that do not fit.
    """
    check_convention(convention)
    if 2 * angle.shape[-1] != features.shape[-1]:
        raise ValueError(
            f"{angle.shape[-1]} angles turn {2 * angle.shape[-1]} features, but there are "
            f"{features.shape[-1]}; a position's head_dim must be that of the attention's heads"
        )
    cos, sin = angle.cos(), angle.sin()
    if convention == "half":
        first, second = features.chunk(2, dim=-1)
    else:
        first, second = features.unflatten(-1, (-1, 2)).unbind(-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    joined = torch.cat(turned, -1) if convention == "half" else torch.stack(turned, -1).flatten(-2)
    return joined.to(features.dtype)


def check_convention(convention: str) -> None:
    """Raise ``ValueError`` unless ``convention`` is a way to pair features."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {' or '.join(CONVENTIONS)}; it is {convention!r}")


def sinusoidal_encoding(
    position: Int[Tensor, "*batch sequence"] | Float[Tensor, "*batch sequence"],
    dim: int,
    base: float = 10_000.0,
) -> Float[Tensor, "*batch sequence dim"]:
    """``PE(t)[2 c] = sin(omega_c t)``, ``PE(t)[2 c + 1] = cos(omega_c t)`` with rotary frequencies.

    Angles are float64; the result is float32, or float64 for float64 positions.

    Raises ``ValueError`` as ``rotary_frequencies`` does.
    Source: Vaswani et al. (2017), section 3.5.
    """
    angle = position.double().unsqueeze(-1) * rotary_frequencies(dim, base).to(position.device)
    asked = torch.float64 if position.dtype == torch.float64 else torch.float32
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).to(asked)


def morlet_constraints(
    omega: Float[Tensor, "half"], sigma: Float[Tensor, "half"]
) -> tuple[Float[Tensor, "half"], Float[Tensor, "half"]]:
    """Frequencies and widths held where a Morlet wavelet is admissible and below Nyquist.

    ``sigma >= 5 / (0.95 pi) = 1.675``; ``omega <= 0.95 pi``; then ``omega >= 5 / sigma``.

    Source: arXiv 2605.26355. Differs: it floors sigma at 1e-3, and the last step then lifts omega
    beyond Nyquist for every sigma below 1.59.
    """
    sigma = sigma.clamp(min=SMALLEST_SIGMA)
    return torch.maximum(omega.clamp(max=HIGHEST_OMEGA), ADMISSIBLE / sigma), sigma


def morlet_encoding(
    position: Int[Tensor, "*batch sequence"],
    omega: Float[Tensor, "half"],
    sigma: Float[Tensor, "half"],
) -> Float[Tensor, "*batch sequence dim"]:
    """``PE(t)[2 c] = exp(-t^2 / (2 sigma_c^2)) cos(omega_c t)``, ``[2 c + 1]`` with sin.

    ``omega`` in radians per position, ``sigma`` in positions, taken as they are (constraints:
    ``morlet_constraints``). At the published start sigma is 1.7 to 5: beyond 15 tokens the encoding
    is below 0.2 % of its size, and a model has no positions there.

    Source: arXiv 2605.26355, Morlet positional encoding.
    """
    wide = torch.promote_types(omega.dtype, torch.float32)
    time = position.to(torch.promote_types(position.dtype, wide)).unsqueeze(-1)
    envelope = torch.exp(-0.5 * (time / sigma).square())
    angle = time * omega
    waves = torch.stack([envelope * angle.cos(), envelope * angle.sin()], dim=-1)
    return waves.flatten(-2)


def gaussian_locality(
    lift: Lift,
    ell: float | Float[Tensor, "#head"],
    *,
    query_position: Int[Tensor, "query"] | None = None,
    key_position: Int[Tensor, "key"] | None = None,
) -> Lift:
    """The same lift with ``-(i - j)^2 / (2 ell_h^2)`` added to the logits: near tokens weigh more.

    ``ell`` is a width in positions, a number or (head,); infinity adds exactly nothing. Positions
    are integers; left out, the last query stands at the last key.

    Raises ``ValueError`` for a number that is not above 0, and unless there is one or one per head.

    Source: the amplitude of Morlet positions made relative (arXiv 2606.01258). Differs: one width
    per head, where the paper has one per frequency.
    """
    if isinstance(ell, (int, float)) and not ell > 0:
        raise ValueError(f"ell is a width in positions and must be above 0, but it is {ell}")
    if (query_position is None) != (key_position is None):
        raise ValueError("give query_position and key_position, or neither")
    if query_position is None or key_position is None:
        sizes = lift.query.shape[2], lift.key.shape[2]
        query_position, key_position = positions(*sizes, lift.query.device)
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    width = torch.as_tensor(ell, device=lift.query.device).to(wide)
    if width.numel() not in (1, lift.query.shape[1]):
        raise ValueError(
            f"ell is one width or one per head ({lift.query.shape[1]}), but there are "
            f"{width.numel()}; a position's num_heads must be that of the attention"
        )
    precision = width.pow(-2).reshape(1, -1, 1)
    query, key = (x.to(wide).reshape(1, 1, -1) for x in (query_position, key_position))
    return replace(lift, pair=Gaussian(query, key, precision))


def oscillator_frequencies(count: int, longest: int = 128) -> Float[Tensor, "count"]:
    """Space ``count`` frequencies, in radians per position, from pi to ``2 pi / longest``.

    Log-spaced, float64. Periods go from 2 tokens to ``longest``.

    Raises ``ValueError`` for fewer than 1, and for a period below 2 (Nyquist).
    Source: ours (section 5 of the mathematics).
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count is the number of oscillators, at least 1; it is {count!r}")
    if not 2 <= longest < math.inf:
        raise ValueError(f"the longest period is at least 2 positions, and finite; it is {longest}")
    last = math.log(2.0 * math.pi / longest)
    return torch.linspace(math.log(math.pi), last, count, dtype=torch.float64).exp()


def oscillate(
    lift: Lift,
    frequency: Float[Tensor, "oscillator"],
    amplitude: Float[Tensor, "head oscillator"],
    phase: Float[Tensor, "head oscillator"],
    *,
    query_position: Int[Tensor, "query"] | None = None,
    key_position: Int[Tensor, "key"] | None = None,
) -> Lift:
    """Add ``sum_f a_hf cos(omega_f (t - u) + phi_hf)`` to the logits of a lift.

    t and u are where query and key stand, integers (left out: the last query at the last key);
    ``frequency`` in radians per position, ``amplitude`` in nats, ``phase`` in radians. As features:

        query' = a [cos(omega t + phi), sin(omega t + phi)],  key' = [cos(omega u), sin(omega u)]

    so that a lift grows by two features an oscillator, and stays on the fused kernel. Angles are
    float64. An amplitude of 0 adds exactly nothing.

    Raises ``ValueError`` unless there is one row of amplitudes and phases a head.

    Source: ours; coordinates of Kuramoto attention (arXiv 2606.11585) that are in step everywhere,
    so that they never move and only score.
    """
    if (query_position is None) != (key_position is None):
        raise ValueError("give query_position and key_position, or neither")
    if query_position is None or key_position is None:
        sizes = lift.query.shape[2], lift.key.shape[2]
        query_position, key_position = positions(*sizes, lift.query.device)
    wanted = (lift.query.shape[1], len(frequency))
    for name, given in (("amplitude", amplitude), ("phase", phase)):
        if tuple(given.shape) != wanted:
            raise ValueError(
                f"{name} is (head, oscillator) = {wanted}, but it is {tuple(given.shape)}; a "
                "position's num_heads must be that of the attention"
            )
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    omega = frequency.double()
    turned = (query_position.double().unsqueeze(-1) * omega) + phase.double().unsqueeze(1)
    still = key_position.double().unsqueeze(-1) * omega
    swing = amplitude.to(wide).unsqueeze(1)
    query = torch.cat([swing * turned.cos().to(wide), swing * turned.sin().to(wide)], dim=-1)
    key = torch.cat([still.cos(), still.sin()], dim=-1)
    query = query.to(lift.query.dtype).expand(*lift.query.shape[:3], -1)
    key = key.to(lift.key.dtype).expand(*lift.key.shape[:3], -1)
    return replace(
        lift,
        query=torch.cat([lift.query, query], dim=-1),
        key=torch.cat([lift.key, key], dim=-1),
    )
