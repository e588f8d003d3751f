"""Other ways to align, as baselines: Gaussian mixtures, the guided loss, monotonic search."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .lift import Lift
from .pair import Gaussian

SMALLEST = 1e-300  # of a chance, and of a sum that divides
LARGEST = 1e300  # of a logit, either way


def mixture_lift(
    mean: Float[Tensor, "batch head query component"],
    width: Float[Tensor, "batch head query component"],
    value: Float[Tensor, "batch key_head key value_dim"],
    mask: Bool[Tensor, "batch key"] | None = None,
    *,
    direct: bool = False,
) -> Lift:
    """Gaussians over source positions as a lift whose heads are (head, component).

    ``logit[t, j] = -(j - mean[t])^2 / (2 width[t]^2)``; the outputs of the components are to be
    weighted and summed. ``mean`` and ``width`` in tokens, the first real token at 0; ``mask`` has
    SDPA's polarity (True = takes part). ``direct``: see ``Gaussian``.

    Source: Graves (arXiv 1308.0850), equations 46 to 51; location-relative use: Battenberg et al.
    (arXiv 1910.10288). Differs: each component is normalized over the real source tokens, so that
    weights sum to 1 also near the ends.
    """
    batch, heads, queries, components = mean.shape
    keys = value.shape[2]
    position = torch.arange(keys, device=value.device, dtype=torch.float64).expand(1, 1, keys)
    bias = None
    if mask is not None:
        first = mask.int().argmax(-1).double()
        position = position - first[:, None, None]
        bias = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -math.inf)
        bias = bias.unsqueeze(1)
    center, spread = (x.transpose(2, 3).flatten(1, 2).double() for x in (mean, width))
    pair = Gaussian(center, position, spread.pow(-2), direct)
    query = value.new_zeros(batch, heads * components, queries, 0)
    key = value.new_zeros(*value.shape[:3], 0)
    return Lift(query, key, value, bias, pair=pair)


def guided_attention_loss(
    weights: Float[Tensor, "batch head query key"],
    query_mask: Bool[Tensor, "batch query"] | None = None,
    key_mask: Bool[Tensor, "batch key"] | None = None,
    *,
    spread: float = 0.2,
) -> Float[Tensor, ""]:
    """Mean weight far from the diagonal: ``A[t, s] (1 - exp(-(s / S - t / T)^2 / (2 spread^2)))``.

    S and T count real tokens; the mean is over real pairs and heads. Masks have SDPA's polarity
    (True = real).

    Raises ``ValueError`` for a spread that is not above 0.
    Source: Tachibana et al. (arXiv 1710.08969), section 4.1; the spread of 0.2 is theirs.
    """
    if not spread > 0:
        raise ValueError(f"spread is a share of the length and must be above 0; it is {spread}")
    batch, _, queries, keys = weights.shape
    real = []
    for mask, length in ((query_mask, queries), (key_mask, keys)):
        all_real = torch.ones(batch, length, dtype=torch.bool, device=weights.device)
        real.append(all_real if mask is None else mask)
    through = [(x.cumsum(-1) - 1) / x.sum(-1, keepdim=True).clamp(min=1) for x in real]
    distance = through[0].unsqueeze(-1) - through[1].unsqueeze(-2)
    penalty = 1.0 - torch.exp(-distance.square() / (2.0 * spread**2))
    pairs = (real[0].unsqueeze(-1) & real[1].unsqueeze(-2)).unsqueeze(1)
    charged = weights * penalty.to(weights.dtype).unsqueeze(1)
    total = charged.masked_fill(~pairs, 0.0).sum()
    return total / (pairs.sum() * weights.shape[1]).clamp(min=1)


@torch.no_grad()
def monotonic_alignment_search(
    log_likelihood: Float[Tensor, "batch source target"],
    source_length: Int[Tensor, "batch"] | None = None,
    target_length: Int[Tensor, "batch"] | None = None,
) -> Int[Tensor, "batch target"]:
    """The source token of each frame on the best monotone path that skips none.

    Maximizes the sum of ``log_likelihood`` over paths that begin at the first token, end at the
    last, and move by 0 or 1 token a frame: ``Q[s, t] = max(Q[s, t-1], Q[s-1, t-1]) + l[s, t]``.
    Frames beyond ``target_length`` get -1. Of paths through -inf, those that pass fewest of them
    count as best. In float64.

    Raises ``ValueError`` for lengths out of range, and where there are fewer frames than tokens: no
    such path.
    Source: Kim et al., Glow-TTS (arXiv 2005.11129), section 3.2 and algorithm 1.
    """
    batch, sources, targets = log_likelihood.shape
    device = log_likelihood.device
    full = torch.ones(batch, dtype=torch.long, device=device)
    source_length = full * sources if source_length is None else source_length.long()
    target_length = full * targets if target_length is None else target_length.long()
    for name, length, most in (
        ("source_length", source_length, sources),
        ("target_length", target_length, targets),
    ):
        if ((length < 1) | (length > most)).any():
            raise ValueError(f"{name} must be 1 to {most}; it is {length.tolist()}")
    if (target_length < source_length).any():
        raise ValueError(
            "a path that skips no token needs as many frames as tokens, but there are rows with "
            f"{(source_length - target_length).max().item()} frames too few"
        )
    score = torch.full((batch, sources), -math.inf, dtype=torch.float64, device=device)
    score[:, 0] = 0.0
    moved = torch.zeros(batch, sources, targets, dtype=torch.bool, device=device)
    likelihood = _finite(log_likelihood.double())
    for t in range(targets):
        if t:
            before = torch.nn.functional.pad(score[:, :-1], (1, 0), value=-math.inf)
            moved[:, :, t] = before > score
            score = torch.maximum(score, before)
        score = score + likelihood[:, :, t]
    path = torch.full((batch, targets), -1, dtype=torch.long, device=device)
    token = source_length - 1
    for t in range(targets - 1, -1, -1):
        within = t < target_length
        path[:, t] = torch.where(within, token, -1)
        step = moved[:, :, t].gather(1, token.unsqueeze(1)).squeeze(1)
        token = token - (within & step).long()
    return path


def durations(
    weights: Float[Tensor, "*batch query key"],
    query_mask: Bool[Tensor, "#batch query"] | None = None,
    *,
    whole: bool = False,
) -> Float[Tensor, "*batch key"]:
    """How many frames attention spends on each source token: ``d_s = sum_t A[t, s]``.

    ``weights`` are soft or hard, (batch, head, query, key) or (batch, query, key), rows summing to
    1; ``query_mask`` (batch, query) has SDPA's polarity (True = a real frame). The durations of a
    row sum to its real frames. ``whole`` rounds them to numbers that still do, by the largest
    remainders, as a duration predictor or a length regulator takes them; they have no gradient.
    Durations are in float32 or better.

    Raises ``ValueError`` for a mask of another shape.
    Source: the expected counts of soft alignments; rounding by largest remainders (Hamilton).
    """
    if query_mask is not None:
        wanted = (weights.shape[0], weights.shape[-2])
        if tuple(query_mask.shape) != wanted:
            raise ValueError(
                f"query_mask must have shape (batch, query) = {wanted}, but it is "
                f"{tuple(query_mask.shape)}"
            )
        shape = (len(query_mask), *(1,) * (weights.dim() - 3), -1, 1)
        weights = weights.masked_fill(~query_mask.reshape(shape), 0.0)
    spent = weights.sum(-2, dtype=torch.promote_types(weights.dtype, torch.float32))
    if not whole:
        return spent
    with torch.no_grad():
        least = spent.floor()
        missing = (spent.sum(-1, keepdim=True).round() - least.sum(-1, keepdim=True)).long()
        rank = (spent - least).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        return least + (rank < missing).to(least.dtype)


def _finite(likelihood: Tensor) -> Tensor:
    """-inf as a number that no sum over a path of the others can make up for."""
    impossible = likelihood == -math.inf
    known = likelihood.masked_fill(impossible, 0.0)
    high, low = known.amax((1, 2), keepdim=True), known.amin((1, 2), keepdim=True)
    worse = low - (likelihood.shape[2] + 1) * (high - low + 1.0)
    return torch.where(impossible, worse, known)


def forward_posterior(
    logits: Float[Tensor, "batch head frame key"],
    move: Float[Tensor, "batch head frame"],
    *,
    mask: Bool[Tensor, "batch key"] | None = None,
    frames: Bool[Tensor, "batch frame"] | None = None,
    state: Float[Tensor, "batch head key"] | None = None,
) -> tuple[Float[Tensor, "batch head frame key"], Float[Tensor, "batch head key"]]:
    """Follow a source token by token: the posterior of a monotone hidden Markov model, forwards.

    ``a_0 = 1`` at the first real token; a frame stays or moves on by one token with probability
    ``move``, and weighs tokens by what it has in common with them:

        a_t(s) ~ ((1 - move_t) a_{t-1}(s) + move_t a_{t-1}(s - 1)) exp(logits_t(s))

    normalized over tokens; a row's first real frame is at the first token, and from the last one
    there is nowhere to go, even for a certain ``move``. ``mask`` and ``frames``
    are True on what is real: padded tokens take no part, padded frames change nothing. ``state`` is
    the last frame's posterior of an earlier call. Returns the posteriors, which are the weights of
    attention, and the state; all in float64.

    Raises ``ValueError`` for sizes that do not fit, ``TypeError`` for masks that are not boolean.

    Source: forward attention (Zhang, Ling and Dai, arXiv 1807.06736), section 3, equations 8 to 12
    with the transition agent. Differs: the emission is ``exp(logits)``, not its softmax, which
    the normalization makes the same; ``move`` is the chance of moving on, theirs of staying.
    """
    _check_forward(logits, move, mask=mask, frames=frames, state=state)
    real = mask
    if real is None:
        real = torch.ones(logits.shape[0], logits.shape[3], dtype=torch.bool, device=logits.device)
    if logits.shape[2] == 0 or logits.shape[3] == 0:
        nothing = logits.double() * move.double().unsqueeze(-1)
        return nothing, nothing.sum(2) if state is None else state
    before = _token_before(real)
    step = move.double()
    scores = logits.double().masked_fill(~real[:, None, None], -torch.inf)
    first = _first(real).unsqueeze(1)
    at = torch.zeros_like(scores[:, :, 0]) if state is None else state  # zeros: before any frame
    found = []
    for t in range(logits.shape[2]):
        here = None if frames is None else frames[:, t, None, None]
        index = before.clamp(min=0).unsqueeze(1).expand_as(at)
        came = at.gather(-1, index).masked_fill(before.unsqueeze(1) < 0, 0.0)
        chance = step[:, :, t, None]
        expected = torch.lerp(at, came, chance)
        # At the end all may have moved on, to nowhere: then all stay. Before any frame none is.
        still = torch.where(at.sum(-1, keepdim=True) > 0, at, first)
        expected = torch.where(expected.sum(-1, keepdim=True) > 0, expected, still)
        # Against the best token that can be reached: another may be beyond what a float holds.
        far = expected < SMALLEST
        best = scores[:, :, t].masked_fill(far, -torch.inf).amax(-1, keepdim=True)
        weights = expected * (scores[:, :, t] - best.clamp(min=-LARGEST)).clamp(max=0.0).exp()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=SMALLEST)
        at = weights if here is None else torch.where(here, weights, at)
        found.append(at)
    return torch.stack(found, 2), at


def _check_forward(
    logits: Tensor,
    move: Tensor,
    *,
    mask: Tensor | None,
    frames: Tensor | None,
    state: Tensor | None,
) -> None:
    batch, heads, count, keys = logits.shape
    wanted = {
        "move": (move, (batch, heads, count)),
        "mask": (mask, (batch, keys)),
        "frames": (frames, (batch, count)),
        "state": (state, (batch, heads, keys)),
    }
    for name, (given, shape) in wanted.items():
        if given is not None and tuple(given.shape) != shape:
            raise ValueError(
                f"logits of {tuple(logits.shape)} go with {name} of {shape}, but it is "
                f"{tuple(given.shape)}"
            )
    for name, given in (("mask", mask), ("frames", frames)):
        if given is not None and given.dtype != torch.bool:
            raise TypeError(f"{name} must be boolean (True = real), not {given.dtype}")


def _token_before(real: Tensor) -> Tensor:
    """Index of the real token before each (batch, key); -1 where there is none."""
    index = torch.arange(real.shape[-1], device=real.device).expand_as(real)
    last = index.masked_fill(~real, -1).cummax(-1).values
    return torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], -1)


def _first(real: Tensor) -> Tensor:
    """1 at the first real token (batch, key), 0 elsewhere."""
    return (real & (real.cumsum(-1) == 1)).double()
