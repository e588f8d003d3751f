"""Kuramoto attention: tokens are phases, and pull one another into step."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..mechanism import lift_of, mechanism
from .attend import attend
from .lift import Lift
from .manifold import Circle, Manifold
from .neighborhood import Full, Neighborhood, positions, without_own

CIRCLE = Circle()
BETA = mechanism("kuramoto").scalars["beta"].start  # where the sharpness of coupling starts


def coupling_lift(
    query: Float[Tensor, "batch head query feature coordinate"],
    key: Float[Tensor, "batch head key feature coordinate"],
    value: Float[Tensor, "batch head key value_feature coordinate"],
    beta: float | Float[Tensor, "#head"],
    *,
    gate: Float[Tensor, "#batch #head #query coordinate"] | None = None,
    manifold: Manifold = CIRCLE,
) -> Lift:
    """``logit[t, u] = beta / sqrt(m) sum_c g[t, c] <X[t, c], X[u, c]>`` over m coordinates.

    The tensors are embedded points of ``manifold``, queries and keys turned by what drifts, values
    as they are. What is learned sits on the query, so keys cache as they are. The lift has the
    dtype of ``gate`` (without one, of the query); multipliers are applied in float32 or better, and
    the result is rounded once.
    """
    dtype = query.dtype if gate is None else gate.dtype
    strength = _strength(beta, query, manifold.scale)
    multiplier = strength if gate is None else strength * gate.to(strength.dtype)
    lifted = query * multiplier.unsqueeze(-2)
    return Lift(*(x.flatten(-2).to(dtype) for x in (lifted, key, value)))


@lift_of("kuramoto")
def kuramoto_lift(
    query: Float[Tensor, "batch head query coordinate"],
    key: Float[Tensor, "batch key_head key coordinate"],
    value: Float[Tensor, "batch key_head key value_dim"],
    beta: float | Float[Tensor, "#head"],
) -> Lift:
    """``logit[t, u] = beta / sqrt(m) sum_c cos(query[t, c] - key[u, c])``, of angles in radians.

    Lifted as ``query' = beta / sqrt(m) [cos, sin]``, ``key' = [cos, sin]``. ``value`` is any; in
    Kuramoto attention it is [cos, sin] of the raw phases. ``beta`` is a number or (head,); 0
    gives the mean over the neighbourhood.

    Source: arXiv 2606.11585, Kuramoto attention on the circle.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    x, others = (CIRCLE.embed(each.to(wide).unsqueeze(-2)).flatten(-2) for each in (query, key))
    return Lift((x * _strength(beta, query)).to(query.dtype), others.to(key.dtype), value)


def _strength(beta: float | Tensor, query: Tensor, scale: float = 1.0) -> Tensor:
    """``scale beta / sqrt(m)`` as (head or 1, 1, 1), float32 or better; m coordinates come last."""
    wide = torch.promote_types(query.dtype, torch.float32)
    each = torch.as_tensor(beta, device=query.device).to(wide).reshape(-1, 1, 1)
    return each * (scale / math.sqrt(query.shape[-1]))


def kuramoto_coupling(
    phase: Float[Tensor, "batch head query *point"],
    gate: Float[Tensor, "#batch #head #query coordinate"] | None = None,
    beta: float | Float[Tensor, "#head"] = BETA,
    *,
    key_phase: Float[Tensor, "batch head key *point"] | None = None,
    omega: Float[Tensor, "coordinate"] | None = None,
    lag: Float[Tensor, "#batch #head #query coordinate"] | None = None,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    manifold: Manifold = CIRCLE,
) -> Float[Tensor, "batch head query *point"]:
    """The velocity by which tokens pull one another into step.

    ``score[t, u] = beta / sqrt(m) sum_c g[t, c] cos(theta[t, c] - theta[u, c] + omega_c (t - u) +
    lag[t, c])``, ``A = softmax(score)`` over the neighbourhood, then
    ``velocity[t] = sum_u A[t, u] sin(theta[u] - theta[t])``, in radians; move by
    ``theta + kappa * velocity``. On another ``manifold`` phases are points (batch, head, token,
    component, coordinate), cosines inner products, and the velocity is the tangent part of the mean
    point (move by ``manifold.retract``).

    ``gate`` weighs coordinates for each query (None: all alike), ``beta`` is the sharpness,
    ``omega`` the drift in radians per position (rotary frequencies), ``lag`` an offset in radians;
    values are the raw phases, without drift. ``key_phase`` are other tokens' phases (None: one's
    own; a token then sees itself, which moves nothing but lets a head do nothing). Positions are
    bottom-right. Masks are SDPA's: boolean True = takes part. Products are computed in the dtype of
    ``gate`` (float32 or better without one); phases and the velocity are float32 or better.
    Remaining arguments and errors: ``attend``.

    Source: arXiv 2606.11585, Kuramoto attention; manifolds: derived by us from the same energy.
    """
    flat, wide = phase.dim() == 4, torch.promote_types(phase.dtype, torch.float32)
    query = phase.to(wide).unsqueeze(-2) if flat else phase.to(wide)
    key = query
    if key_phase is not None:
        key = key_phase.to(wide).unsqueeze(-2) if flat else key_phase.to(wide)
    x, others = manifold.embed(query), manifold.embed(key)
    turned, turned_keys = x, others
    if omega is not None:
        sizes = positions(query.shape[2], key.shape[2], query.device)
        angle, key_angle = (p.to(wide).unsqueeze(-1) * omega.to(wide) for p in sizes)
        turned, turned_keys = manifold.turn(x, angle), manifold.turn(others, key_angle)
    if lag is not None:
        turned = manifold.turn(turned, lag.to(turned.dtype))
    lift = coupling_lift(turned, turned_keys, others, beta, gate=gate, manifold=manifold)
    options = {"top_k": top_k, "attn_mask": attn_mask, "dropout_p": dropout_p}
    mean = attend(lift, neighborhood, **options).to(x.dtype)
    velocity = manifold.tangent(x, mean.unflatten(-1, (manifold.features, -1)))
    return velocity.squeeze(-2) if flat else velocity


def following(
    lift: Lift, neighborhood: Neighborhood, *, beside_own: bool = False
) -> tuple[Lift, Neighborhood]:
    """Give earlier tokens, whose scores stay, the values of the tokens after them.

    Key u, before the query, has the value of token u + 1, which is not beyond the query: causal by
    construction. The last key is oneself, whose successor is not known, and takes no part. With
    ``beside_own`` a key has its own value, then its successor's.

    Raises ``ValueError`` for what is not causal, and a window of 1.

    Source: successor coupling (arXiv 2606.18694), known to us by its abstract.
    """
    others = without_own(neighborhood, successors=True)
    assert others is not None
    value = lift.value.roll(-1, 2)
    if beside_own:
        value = torch.cat([lift.value, value], -1)
    return replace(lift, value=value), others


def harmonics(
    x: Float[Tensor, "*token 2 coordinate"], count: int
) -> Float[Tensor, "*token feature coordinate"]:
    """Compute [cos, sin] of 1 to ``count`` times the angles whose [cos, sin] is ``x``."""
    found = [x]
    for _ in range(count - 1):
        (cos, sin), (first, other) = found[-1].unbind(-2), x.unbind(-2)
        found.append(torch.stack([cos * first - sin * other, sin * first + cos * other], -2))
    return torch.cat(found, -2)


def kernel_pull(
    x: Float[Tensor, "batch token head 2 coordinate"],
    mean: Float[Tensor, "batch token head delay harmonic 2 coordinate"],
    kernel: Float[Tensor, "head delay harmonic 2 coordinate"],
) -> Float[Tensor, "batch token head 1 coordinate"]:
    """Pull phases by a complex kernel over delays and harmonics.

    ``sum_dn Im(K_dn sum_u A[t, u] exp(i n (theta[u + d] - theta[t])))``, in radians.
    ``x`` is [cos, sin] of ``theta[t]``, ``mean`` the weighted mean of ``harmonics`` of those that
    ``following(..., beside_own=True)`` gives, ``kernel`` the real and imaginary part of K for each
    delay d (0 and 1), harmonic n and coordinate. Real K is a pull of that size, its angle a static
    Kuramoto-Sakaguchi frustration. ``K = 1`` for one of the delays at ``n = 1`` and 0 elsewhere is
    the pull of the others (d = 0) or of their successors (d = 1).

    Source: the coupling kernel of arXiv 2606.18694, known to us by its abstract.
    """
    own = harmonics(x, mean.shape[-3]).unflatten(-2, (-1, 2)).unsqueeze(-4)
    (cos, sin), (mean_cos, mean_sin) = own.unbind(-2), mean.unbind(-2)
    real, imaginary = kernel.unbind(-2)
    pull = mean_sin * cos - mean_cos * sin
    agreement = mean_cos * cos + mean_sin * sin
    return (real * pull + imaginary * agreement).sum((-3, -2)).unsqueeze(-2)


def with_own(
    weights: Float[Tensor, "batch head query key"],
) -> Float[Tensor, "batch head query key"]:
    """Give oneself what is left of each row of weights, the last query at the last key."""
    queries, keys = weights.shape[-2:]
    left = (1.0 - weights.sum(-1)).clamp(min=0.0)  # rounding may leave less than nothing
    return weights + F.pad(torch.diag_embed(left), (keys - queries, 0))
