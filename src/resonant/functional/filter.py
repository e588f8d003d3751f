"""A target clock that corrects itself by what its frames resemble: a filter over frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from .clock import FLOOR, NARROWEST, WIDEST, Clock
from .lift import Lift
from .pair import Gaussian
from .scan import Given, looped, scanned

FEWEST = 1e-12  # of ``search`` and ``spread``, which divide
VARIANCE = 0.05  # of a clock's place at the start, in clock time squared
SHARES = ("gain", "tempo_gain")
NUMBERS = (*SHARES, "diffusion", "search", "spread", "renewal", "start_variance")
Number = float | Float[Tensor, "#head"]


@dataclass(frozen=True)
class ClockState:
    """Where target clocks stand after the frames so far, in float64.

    ``position`` and its ``variance`` (batch, head) in clock time and its square, ``tempo`` (batch,
    head) the log of how much faster the clock runs than its rates say, ``frames`` (batch) how many
    real frames there were.
    """

    position: Float[Tensor, "batch head"]
    variance: Float[Tensor, "batch head"]
    tempo: Float[Tensor, "batch head"]
    frames: Int[Tensor, "batch"]

    def rows(self, index: Int[Tensor, "rows"]) -> ClockState:
        """Take the rows ``index`` of the batch."""
        held = (self.position, self.variance, self.tempo, self.frames)
        return ClockState(*(each.index_select(0, index) for each in held))


@dataclass(frozen=True)
class FilteredClock:
    """Where frames stand: ``center`` and ``variance`` (batch, head, frame), and the state after.

    ``observed`` (batch, head, frame), without gradients, is what each frame resembled, in clock
    time; where nothing was looked at, the position.
    """

    center: Float[Tensor, "batch head frame"]
    variance: Float[Tensor, "batch head frame"]
    observed: Float[Tensor, "batch head frame"]
    state: ClockState


def clock_filter(
    rate: Float[Tensor, "batch head frame"],
    logits: Float[Tensor, "batch head frame key"],
    source: Clock,
    *,
    gain: Number = 0.5,
    tempo_gain: Number = 0.0,
    diffusion: Number = 0.05,
    search: Number = 1.0,
    spread: Number = 0.25,
    renewal: Number = 0.05,
    start_variance: float = VARIANCE,
    mask: Bool[Tensor, "batch frame"] | None = None,
    state: ClockState | None = None,
    path: Literal["scan", "direct"] = "scan",
) -> FilteredClock:
    """Filter a running clock: its rates are a drift, what frames resemble are observations.

    Per row and head, with source positions ``Lambda_s`` (``source.center``) and the state ``(c, P,
    u)``, a frame that is not its row's first first corrects it

        w_s ~ exp(logits_s - (Lambda_s - c)^2 / (2 (P + search))),  o = sum_s w_s Lambda_s,
        m = sum_s w_s (Lambda_s - o)^2,  e = o - c  (at least 0 once c is past the last real token)
        K = gain (P + renewal) / (P + renewal + m + spread)
        u <- clip(u + tempo_gain K e, +-1.5);  c <- c + K e;  P <- (1 - K) P

    and every frame then takes its time ``r = rate exp(u)``: it stands at ``c + r / 2`` with
    variance ``P + diffusion r / 2``, and ``c <- c + r``, ``P <- P + diffusion r``.

    ``logits`` are what a frame and a token have in common, from frames before it: the filter is
    causal where they are. ``gain`` and ``tempo_gain`` lie in [0, 1]; ``diffusion`` is in clock
    time, ``search``, ``spread`` and ``renewal`` in its square; numbers or (head,). Without gain the
    clock is the running one. ``mask`` is True on real frames: others change nothing and stand where
    the clock was left. Padding of ``source`` takes no part; a row without real tokens is not
    corrected. All is float64.

    ``scan`` keeps states alone in the forward pass and differentiates many frames at once: a batch
    for the Jacobians, a recurrence of 3 x 3 for the states. Of 256 tokens or more it looks at those
    alone whose penalty is within 32 nats, and the range of the frame's logits, of the nearest
    one's. ``direct`` is the plain loop, the specification, and what is compiled and exported, frame
    by frame; it also makes what second derivatives need.

    Raises ``ValueError`` for a normalized source, for numbers outside their range, for sizes that
    do not fit and for an unknown ``path``; ``TypeError`` for a mask that is not boolean.

    Source: ours; a Kalman filter (Kalman, 1960) over the clocks of arXiv 2509.14678. Differs from
    Kalman's: w holds the prior already, so o leans towards c and m says so; with a gain below 1 the
    variance kept is the larger ``(1 - K) P``.
    """
    _check(rate, logits, source, mask=mask, state=state)
    heads = rate.shape[1]
    numbers = (gain, tempo_gain, diffusion, search, spread, renewal, start_variance)
    _check_numbers(numbers, heads, path)
    place = source.center.repeat_interleave(heads // source.center.shape[1], dim=1)
    everywhere = torch.ones_like(place[:, :1], dtype=torch.bool)
    real = everywhere if source.mask is None else source.mask.unsqueeze(1)
    if place.shape[-1] == 0:  # one token that takes no part, so that nothing below is empty
        place, logits, real = (F.pad(x, (0, 1)) for x in (place, logits, real))
    frames = torch.ones_like(rate[:, 0], dtype=torch.bool) if mask is None else mask
    state = _begun(place, start_variance) if state is None else state
    before = state.frames.unsqueeze(1) + frames.cumsum(1) - frames.long()
    listens = (frames & (before > 0)).unsqueeze(1) & real.any(-1, keepdim=True)
    # What does not count must not be a number either.
    scores = logits.double().masked_fill(~listens.unsqueeze(-1), 0.0)
    if source.mask is not None:  # of a row without real tokens all stay, which correct nothing
        hidden = ~real & real.any(-1, keepdim=True)
        scores = scores.masked_fill(hidden.unsqueeze(2), -torch.inf)
    last = place.masked_fill(~real, -torch.inf).amax(-1, keepdim=True)
    used = (gain, tempo_gain, diffusion, search, spread, renewal)
    trust, speed, noise, near, floor, own = (_by_head(x, heads, place) for x in used)
    given = Given(
        taken=rate.double().masked_fill(~frames.unsqueeze(1), 0.0).unsqueeze(-1),
        scores=scores,
        place=place,
        last=last,
        gain=trust.unsqueeze(2) * listens.to(place.dtype).unsqueeze(-1),
        numbers=(speed, noise, 2.0 * near.clamp(min=FEWEST), own, own + floor.clamp(min=FEWEST)),
    )
    begin = [each.unsqueeze(-1) for each in (state.position, state.variance, state.tempo)]
    run = scanned if path == "scan" and not torch.compiler.is_compiling() else looped
    center, variance, observed, position, left, tempo = (x.squeeze(-1) for x in run(begin, given))
    after = ClockState(position, left, tempo, state.frames + frames.sum(1))
    return FilteredClock(center, variance, observed, after)


def filter_lift(
    target: FilteredClock,
    source: Clock,
    value: Float[Tensor, "batch key_head key value_dim"],
    *,
    floor: Number = FLOOR,
    direct: bool = False,
) -> Lift:
    """Scores of a filtered clock: ``-(Lambda_s - c_t)^2 / (2 (V_t + floor^2))``.

    Raises ``ValueError`` for a floor that is not above 0.

    The ``frozen`` score of ``clock_lift`` with the filter's own variance in place of both clocks'.
    ``floor`` is in clock time, a number or (head,); ``direct`` as there. Padding of the source
    takes no part. The mean source position may fall as frames go on: corrections go back.

    Source: ours, see ``clock_filter``.
    """
    heads = target.center.shape[1]
    if isinstance(floor, (int, float)) and not floor > 0:
        raise ValueError(f"floor is a spread in clock time and must be above 0; it is {floor}")
    narrow = _by_head(floor, heads, target.center).clamp(NARROWEST, WIDEST)
    precision = 1.0 / (target.variance + narrow.square())
    bias = None
    if source.mask is not None:
        hidden = torch.zeros_like(source.mask, dtype=torch.float32)
        bias = hidden.masked_fill(~source.mask, -math.inf).unsqueeze(1)
    query = value.new_zeros(*target.center.shape, 0)
    key = value.new_zeros(*value.shape[:3], 0)
    pair = Gaussian(target.center, source.center, precision, direct)
    return Lift(query, key, value, bias, pair=pair)


def _begun(place: Tensor, variance: float) -> ClockState:
    """The state before any frame."""
    still = place.new_zeros(place.shape[:2])
    count = torch.zeros(len(place), dtype=torch.int64, device=place.device)
    return ClockState(still, torch.full_like(still, variance), still, count)


def _by_head(number: Number, heads: int, like: Tensor) -> Tensor:
    """A number as (1, head, 1) in float64."""
    found = torch.as_tensor(number, dtype=torch.float64, device=like.device)
    return found.reshape(1, -1, 1).expand(1, heads, 1)


def _check_numbers(numbers: tuple[Number, ...], heads: int, path: str) -> None:
    """Refuse numbers out of range, those of other heads, and an unknown path."""
    if path not in ("scan", "direct"):
        raise ValueError(f"path is scan or direct; it is {path!r}")
    for name, number in zip(NUMBERS, numbers, strict=True):
        if not isinstance(number, (int, float)):
            if number.numel() not in (1, heads):
                counts = f"one number or one per head ({heads}), but there are {number.numel()}"
                raise ValueError(f"{name} is {counts}")
        elif not 0.0 <= number < math.inf or (name in SHARES and number > 1.0):
            limits = "[0, 1]" if name in SHARES else "[0, inf)"
            raise ValueError(f"{name} lies in {limits}; it is {number}")


def _check(
    rate: Tensor, logits: Tensor, source: Clock, *, mask: Tensor | None, state: ClockState | None
) -> None:
    if source.normalized:
        raise ValueError(
            "a filter follows a running clock; make the source's with normalized=False"
        )
    heads, tokens = source.rate.shape[1:]
    sizes = rate.shape[0], rate.shape[1], rate.shape[2], tokens
    if tuple(logits.shape) != sizes or rate.shape[1] % heads or rate.shape[0] != len(source.rate):
        raise ValueError(
            "logits must be (batch, head, frame, key) of rates and source, heads a multiple of the "
            f"source's, but shapes are {tuple(logits.shape)}, {tuple(rate.shape)} and "
            f"{tuple(source.rate.shape)}"
        )
    if state is not None and tuple(state.position.shape) != tuple(rate.shape[:2]):
        raise ValueError(
            f"state is of (batch, head) = {tuple(state.position.shape)}, but the rates are of "
            f"{tuple(rate.shape[:2])}; a filter goes on with its own state"
        )
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean (True = real), not {mask.dtype}")
    if mask is not None and tuple(mask.shape) != (rate.shape[0], rate.shape[2]):
        raise ValueError(
            f"mask must be (batch, frame) = {(rate.shape[0], rate.shape[2])}, but it is "
            f"{tuple(mask.shape)}"
        )
