"""The scan of a filter over frames: states one by one, gradients of many frames abreast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

WIDEST_TEMPO = 1.5  # of the log tempo, either way
MANY = 256  # tokens, from which on only those that can matter are looked at
NATS = 32.0  # below the nearest token, and beyond the range of logits, a token does not matter
CHUNK = 2**21  # numbers (batch, head, frame, key) that are differentiated at once
SHOWN = 3  # of a frame: its center, its variance, what was observed
# The numbers: the tempo's gain, the diffusion, twice the search, the renewal, and its sum with the
# spread. Places of some, and their count.
DIFFUSION, SEARCH, NUMBERS = 1, 2, 5


@dataclass(frozen=True)
class Given:
    """What frames are filtered by; the last axis is that of tokens, 1 where there is none."""

    taken: Tensor  # (batch, head, frame, 1)
    scores: Tensor  # (batch, head, frame, key)
    place: Tensor  # (batch, head, key)
    last: Tensor  # (batch, head, 1)
    gain: Tensor  # (batch, head, frame, 1), 0 where a frame does not correct its clock
    numbers: tuple[Tensor, ...]  # each (1, head, 1)

    def frames(self) -> Iterator[Given]:
        """Yield each frame alone."""
        along = self.taken.unbind(2), self.scores.unbind(2), self.gain.unbind(2)
        for taken, scores, gain in zip(*along, strict=True):
            yield Given(taken, scores, self.place, self.last, gain, self.numbers)

    def slice(self, frames: slice) -> Given:
        """Take a stretch of frames."""
        return Given(
            self.taken[:, :, frames],
            self.scores[:, :, frames],
            self.place,
            self.last,
            self.gain[:, :, frames],
            self.numbers,
        )

    def only(self, index: Tensor, beyond: Tensor | None = None) -> Given:
        """Keep the tokens at ``index`` alone, without those ``beyond``."""
        place = self.place.expand(*index.shape[:-1], self.place.shape[-1])
        scores = self.scores.gather(-1, index)
        scores = scores if beyond is None else scores.masked_fill(beyond, -torch.inf)
        return replace(self, place=place.gather(-1, index), scores=scores)

    def abreast(self) -> Given:
        """Put all frames side by side: what has no frame axis gets one."""
        return Given(
            self.taken,
            self.scores,
            self.place.unsqueeze(2),
            self.last.unsqueeze(2),
            self.gain,
            tuple(each.unsqueeze(2) for each in self.numbers),
        )


def _look(state: Sequence[Tensor], given: Given) -> tuple[Tensor, ...]:
    """Weights of tokens, how far each is away, and the kernel's variance twice, 1 a row."""
    away = given.place - state[0]
    width = torch.add(given.numbers[SEARCH], state[1], alpha=2.0)
    weights = torch.addcdiv(given.scores, away.square(), width, value=-1.0).softmax(-1)
    return weights, away, width


def _moments(weights: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of how far tokens are away."""
    error = (weights * away).sum(-1, keepdim=True)
    return error, (weights * (away - error).square()).sum(-1, keepdim=True)


def _corrected(
    state: Sequence[Tensor], error: Tensor, scatter: Tensor, given: Given
) -> tuple[Tensor, ...]:
    """Position, variance and tempo after what was observed, and the time that is taken then."""
    position, variance, tempo = state
    tempo_gain, _, _, renewal, floor = given.numbers
    error = torch.where(position > given.last, error.relu(), error)
    own = variance + renewal
    trust = given.gain * own / (variance + scatter + floor)
    step = trust * error
    tempo = torch.addcmul(tempo, tempo_gain, step).clamp(-WIDEST_TEMPO, WIDEST_TEMPO)
    variance = torch.addcmul(variance, trust, variance, value=-1.0)
    return position + step, variance, tempo, given.taken * tempo.exp()


def _shown(corrected: Sequence[Tensor], diffusion: Tensor) -> tuple[Tensor, Tensor]:
    """Centers of frames, and their variances."""
    position, variance, _, taken = corrected
    half = 0.5 * taken
    return position + half, torch.addcmul(variance, diffusion, half)


def _ticked(corrected: Sequence[Tensor], diffusion: Tensor) -> tuple[Tensor, ...]:
    """Position, variance and tempo after frames."""
    position, variance, tempo, taken = corrected
    return position + taken, torch.addcmul(variance, diffusion, taken), tempo


def looped(state: Sequence[Tensor], given: Given) -> tuple[Tensor, ...]:
    """Filter frame after frame, as the equations are written.

    Returns centers, variances and what was observed, then the state after all frames.
    """
    if given.taken.shape[2] == 0:
        return *[_nothing(given)] * SHOWN, *state
    diffusion, found = given.numbers[DIFFUSION], []
    for frame in given.frames():
        weights, away, _ = _look(state, frame)
        error, scatter = _moments(weights, away)
        made = _corrected(state, error, scatter, frame)
        observed = torch.where(frame.gain > 0, state[0] + error, state[0]).detach()
        found.append((*_shown(made, diffusion), observed))
        state = _ticked(made, diffusion)
    return *(torch.stack(x, 2) for x in zip(*found, strict=True)), *state


def scanned(state: Sequence[Tensor], given: Given) -> tuple[Tensor, ...]:
    """Filter as ``looped`` does, over the tokens that can matter; differentiate many at once."""
    if given.taken.shape[2] == 0:
        return *[_nothing(given)] * SHOWN, *state
    parts = (given.taken, given.gain, given.scores, given.place, *given.numbers)
    return _Scan.apply(*state, given.last, *parts)


def _nothing(given: Given) -> Tensor:
    """No frames (batch, head, 0, 1), of which every number has a gradient, which is 0."""
    found = given.taken + given.gain + given.scores.sum(-1, keepdim=True)
    found = found + given.place.sum(-1)[..., None, None]
    for number in given.numbers:
        found = found * number.unsqueeze(2)
    return found


def _can_be_cut(given: Given) -> bool:
    """Whether tokens far away may be left out: many, and the same ones hidden in every frame."""
    if given.place.shape[-1] < MANY or given.place.numel() == 0:
        return False
    finite = given.scores.isfinite()
    return bool((finite == finite[:, :, :1]).all())


class _Near:
    """The tokens that can matter to a clock: penalties within 32 nats, and the range of its logits,
    of the nearest real token's.
    """

    def __init__(self, given: Given) -> None:
        finite = given.scores.isfinite()
        real, shown = finite[:, :, 0], given.scores.masked_fill(~finite, torch.inf)
        self.range = given.scores.amax(-1, keepdim=True) - shown.amin(-1, keepdim=True)
        self.place = given.place.contiguous()
        nothing = given.place.new_full((*given.place.shape[:2], 1), torch.inf)
        before = given.place.masked_fill(~real, -torch.inf).cummax(-1).values
        after = given.place.masked_fill(~real, torch.inf).flip(-1).cummin(-1).values.flip(-1)
        self.before, self.after = torch.cat([-nothing, before], -1), torch.cat([after, nothing], -1)

    def window(self, t: int, state: Sequence[Tensor], search: Tensor) -> tuple[Tensor, int]:
        """The first token (batch, head, 1) of frame t, and how many there are."""
        position, variance, _ = state
        at = torch.searchsorted(self.place, position)
        nearest = torch.minimum(position - self.before.gather(-1, at), self.after.gather(-1, at))
        nearest = torch.minimum(nearest, self.after.gather(-1, at) - position)
        nearest = nearest.clamp(min=0.0).masked_fill(nearest.isinf(), 0.0)
        width = torch.add(search, variance, alpha=2.0)
        reach = (nearest.square() + width * (NATS + self.range[:, :, t])).sqrt()
        first = torch.searchsorted(self.place, position - reach)
        stop = torch.searchsorted(self.place, position + reach, right=True)
        count = max(int((stop - first).max()), 1)
        return first.clamp(max=self.place.shape[-1] - count), count


class _Scan(torch.autograd.Function):
    """States frame by frame without a graph; gradients from graphs of many frames abreast.

    What a frame gives up of its graph is made again from its state, a chunk of frames at a time.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        state: Sequence[Tensor] = tensors[:3]
        last, taken, gain, scores, place, *numbers = tensors[3:]
        given = Given(taken, scores, place, last, gain, tuple(numbers))
        near = _Near(given) if _can_be_cut(given) else None
        before, made, errors, firsts, counts = [], [], [], [], []
        with torch.inference_mode():  # a tenth less time: no tensor counts its versions
            for t, frame in enumerate(given.frames()):
                before.append(state)
                if near is not None:
                    first, count = near.window(t, state, numbers[SEARCH])
                    frame = frame.only(first + torch.arange(count, device=place.device))
                    firsts.append(first)
                    counts.append(count)
                weights, away, _ = _look(state, frame)
                error, scatter = _moments(weights, away)
                corrected = _corrected(state, error, scatter, frame)
                state = _ticked(corrected, numbers[DIFFUSION])
                made.append(corrected)
                errors.append(error)
        windows = (torch.stack(firsts, 2), torch.tensor(counts)) if firsts else ()
        states = torch.stack([torch.stack(x, 2) for x in zip(*before, strict=True)])
        ctx.save_for_backward(states, *tensors, *windows)
        abreast = [torch.stack(x, 2) for x in zip(*made, strict=True)]
        center, variance = _shown(abreast, numbers[DIFFUSION].unsqueeze(2))
        observed = torch.where(gain > 0, states[0] + torch.stack(errors, 2), states[0])
        ctx.mark_non_differentiable(observed)
        return center, variance, observed, *(each.clone() for each in state)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # gradients that have gradients: from the plain loop's graph
            return _graphed(ctx.saved_tensors[1 : 9 + NUMBERS], given)
        on_center, on_variance, _, *through = given
        states, _, _, _, last, taken, gain, scores, place, *rest = ctx.saved_tensors
        numbers, windows = tuple(rest[:NUMBERS]), rest[NUMBERS:]
        whole = Given(taken, scores, place, last, gain, numbers)
        frames, row = taken.shape[2], scores[:, :, 0].numel()
        size = max(1, CHUNK // max(row, 1))
        on_taken, on_gain = torch.empty_like(taken), torch.empty_like(gain)
        on_scores = torch.empty_like(scores)
        on_place, on_numbers = torch.zeros_like(place), [torch.zeros_like(x) for x in numbers]
        on = torch.stack((on_center, on_variance)), torch.stack(through)
        after = on[1]
        for stop in range(frames, 0, -size):
            here = slice(max(0, stop - size), stop)
            window = (windows[0][:, :, here], windows[1][here]) if windows else ()
            chunk = _Chunk(states[:, :, :, here], whole.slice(here), window)
            after, found = chunk.backward(on[0][:, :, :, here], after)
            on_taken[:, :, here], on_gain[:, :, here], on_scores[:, :, here] = found[:3]
            on_place += found[3]
            on_numbers = [a + b for a, b in zip(on_numbers, found[4:], strict=True)]
        return *after, None, on_taken, on_gain, on_scores, on_place, *on_numbers


def _graphed(tensors: Sequence[Tensor], on: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of ``_Scan``'s inputs that can be differentiated again."""
    state, (last, taken, gain, scores, place, *numbers) = tensors[:3], tensors[3:]
    made = looped(state, Given(taken, scores, place, last, gain, tuple(numbers)))
    pairs = [(x, g) for x, g in zip(made, on, strict=True) if x.requires_grad]
    inside = [x for x in tensors if x.requires_grad]
    outputs, gradients = zip(*pairs, strict=True)
    options = {"create_graph": True, "allow_unused": True}
    found = torch.autograd.grad(outputs, inside, gradients, **options)
    each = iter(found)
    return tuple(next(each) if x.requires_grad else None for x in tensors)


class _Chunk:
    """A stretch of frames whose states before them are known: differentiated side by side.

    With the central moments m2 to m4 of the tokens' places and the kernel's variance W, ``d error /
    d position = -1 + m2 / W``, ``d error / d variance = (m3 + 2 error m2) / (2 W^2)``, ``d m2 / d
    position = m3 / W``, ``d m2 / d variance = (m4 - m2^2 + 2 error m3) / (2 W^2)``; the rest is
    differentiated by autograd.
    """

    def __init__(self, states: Tensor, given: Given, window: tuple[Tensor, ...]) -> None:
        self.tokens, self.index = given.place.shape[-1], None
        frames = given.abreast()
        if window:
            first, counts = window
            offsets = torch.arange(int(counts.max()), device=given.place.device)
            self.index = (first + offsets).clamp(max=self.tokens - 1)
            beyond = offsets >= counts.to(offsets.device).unsqueeze(-1)
            frames = frames.only(self.index, beyond)
        self.weights, self.away, self.width = _look(tuple(states), frames)
        error = (self.weights * self.away).sum(-1, keepdim=True)
        apart = self.away - error
        self.first = self.weights * apart
        self.second = self.first * apart
        cubed = self.second * apart
        scatter, third, fourth = (
            each.sum(-1, keepdim=True) for each in (self.second, cubed, cubed * apart)
        )
        width = self.width
        twice = 2.0 / width.square()
        self.inner = (
            (2.0 * scatter / width - 1.0, 2.0 * third / width),
            (
                (third + 2.0 * error * scatter) * twice,
                (fourth - scatter.square() + 2.0 * error * third) * twice,
            ),
        )
        with torch.enable_grad():
            self.before = [each.detach().requires_grad_() for each in states]
            self.seen = [each.detach().requires_grad_() for each in (error, scatter)]
            leaves = (given.taken, given.gain, *given.numbers)
            self.leaves = [each.detach().requires_grad_() for each in leaves]
            taken, gain, *numbers = self.leaves
            whole = replace(given, taken=taken, gain=gain, numbers=tuple(numbers)).abreast()
            diffusion = whole.numbers[DIFFUSION]
            made = _corrected(self.before, self.seen[0], self.seen[1], whole)
            self.shown, self.after = _shown(made, diffusion), _ticked(made, diffusion)

    def backward(self, on_shown: Tensor, after: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Gradients of the state before the stretch, and of what was given."""
        own = self._rows(self.shown, on_shown)
        rows = [self._rows((x,), torch.ones_like(x).unsqueeze(0)) for x in self.after]
        jacobian, on_after = torch.stack(rows), []
        for here, turn in zip(own.unbind(3)[::-1], jacobian.unbind(4)[::-1], strict=True):
            on_after.append(after)
            after = here + (turn * after.unsqueeze(1)).sum(0)
        each = torch.stack(on_after[::-1], 3)
        made = (*self.shown, *self.after)
        inside = (*self.seen, *self.leaves)
        found = torch.autograd.grad(made, inside, (*on_shown, *each), allow_unused=True)
        on_error, on_scatter, on_taken, on_gain, *on_numbers = found
        assert on_error is not None
        assert on_scatter is not None
        on_scores, on_place = self._tokens(on_error, on_scatter)
        through = self.inner[1]
        searched = 0.5 * (on_error * through[0] + on_scatter * through[1])
        on_numbers[SEARCH] = searched.sum((0, 2)).unsqueeze(0)
        return after, (on_taken, on_gain, on_scores, on_place, *on_numbers)

    def _tokens(self, on_error: Tensor, on_scatter: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the scores and of the tokens' places."""
        level = on_scatter * self.seen[1].detach()
        on_scores = torch.addcmul(on_error * self.first, on_scatter, self.second)
        on_scores = torch.addcmul(on_scores, level, self.weights, value=-1.0)
        on_place = torch.addcmul(on_error * self.weights, on_scatter, self.first, value=2.0)
        on_place = torch.addcmul(on_place, on_scores, self.away / self.width, value=-2.0)
        if self.index is None:
            return on_scores, on_place.sum(2)
        empty = on_scores.new_zeros(*on_scores.shape[:3], self.tokens)
        place = empty[:, :, 0].scatter_add(-1, self.index.flatten(2), on_place.flatten(2))
        return empty.scatter_add(-1, self.index, on_scores), place

    def _rows(self, of: Sequence[Tensor], on: Tensor) -> Tensor:
        """Gradients of the states before, through what was seen too."""
        inside = (*self.before, *self.seen)
        found = torch.autograd.grad(of, inside, [*on], retain_graph=True, allow_unused=True)
        position, variance, tempo, error, scatter = (
            torch.zeros_like(x) if g is None else g for g, x in zip(found, inside, strict=True)
        )
        by_position, by_variance = self.inner
        position = position + error * by_position[0] + scatter * by_position[1]
        variance = variance + error * by_variance[0] + scatter * by_variance[1]
        return torch.stack((position, variance, tempo))
