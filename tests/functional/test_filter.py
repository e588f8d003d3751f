"""Clocks that listen: the scan against the plain loop, and the laws of the filter."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from resonant.functional import (
    ClockState,
    FilteredClock,
    attention_weights,
    clock,
    clock_filter,
    clock_lift,
    filter_lift,
    scan,
)

NAMES = ("gain", "tempo_gain", "diffusion", "search", "spread", "renewal")


def drawn(
    frames: int, keys: int, seed: int = 0, batch: int = 2, heads: int = 3
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Rates of frames and tokens, logits, and numbers of the filter, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    logits = torch.randn(batch, heads, frames, keys, generator=generator, dtype=torch.float64)
    numbers = {name: 0.1 + 0.8 * uniform(heads) for name in NAMES}
    return uniform(batch, heads, frames), logits, uniform(batch, heads, keys) + 0.2, numbers


def parts(found: FilteredClock) -> tuple[Tensor, ...]:
    state = found.state
    return found.center, found.variance, state.position, state.variance, state.tempo


MASKS = {
    "none": None,
    "left": [[0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0]],
    "ragged": [[0, 1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 1, 0]],
    "nothing": [[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("tokens", ["all", "some", "none"])
def test_the_scan_is_the_plain_loop_in_value_and_gradient(mask: str, tokens: str) -> None:
    rate, logits, source, numbers = drawn(7, 5)
    real = None if MASKS[mask] is None else torch.tensor(MASKS[mask], dtype=torch.bool)
    kept = {"all": [5, 5], "some": [3, 5], "none": [0, 4]}[tokens]
    known = torch.arange(5) < torch.tensor(kept).unsqueeze(1)

    def run(path: Any, *given: Tensor) -> tuple[Tensor, ...]:
        tokens_clock = clock(given[2], normalized=False, mask=known)
        options: dict[str, Any] = dict(zip(NAMES, given[3:], strict=True))
        return parts(
            clock_filter(given[0], given[1], tokens_clock, mask=real, path=path, **options)
        )

    inputs = [x.requires_grad_() for x in (rate, logits, source, *numbers.values())]
    both = [run(path, *inputs) for path in ("scan", "direct")]
    for ours, exact in zip(*both, strict=True):
        assert torch.equal(ours, exact)
        assert ours.isfinite().all()
    weights = [torch.randn(x.shape, dtype=torch.float64) for x in both[0]]
    sums = [sum((x * w).sum() for x, w in zip(each, weights, strict=True)) for each in both]
    found = [torch.autograd.grad(each, inputs) for each in sums]  # type: ignore[arg-type]
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: run("scan", *given), inputs)


def test_without_gain_it_is_the_running_clock() -> None:
    rate, logits, source, _ = drawn(9, 5)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0, 0]]).bool()
    tokens, running = clock(source, normalized=False), clock(rate, normalized=False, mask=mask)
    found = clock_filter(rate, logits, tokens, gain=0.0, tempo_gain=0.7, diffusion=0.1, mask=mask)
    torch.testing.assert_close(found.center, running.center, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found.variance, 0.05 + 0.1 * running.center, rtol=1e-14, atol=1e-14)
    assert torch.equal(found.state.tempo, torch.zeros(2, 3, dtype=torch.float64))
    still = clock_filter(rate, logits, tokens, gain=0.0, diffusion=0.2, start_variance=0.0)
    value = torch.randn(2, 3, 5, 4)
    ours = attention_weights(filter_lift(still, tokens, value, floor=0.3, direct=True))
    theirs = attention_weights(
        clock_lift(
            clock(rate, normalized=False), tokens, value, diffusion=0.1, floor=0.3, direct=True
        )
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_without_tempo_gain_the_tempo_stays() -> None:
    rate, logits, source, numbers = drawn(7, 5)
    tokens = clock(source, normalized=False)
    with_tempo = clock_filter(rate, logits, tokens, **numbers)
    same: dict[str, Any] = numbers | {"tempo_gain": 0.0}
    without = clock_filter(rate, logits, tokens, **same)
    assert torch.equal(without.state.tempo, torch.zeros(2, 3, dtype=torch.float64))
    assert not torch.equal(with_tempo.center, without.center)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_chunks_are_the_full_pass(cut: int) -> None:
    rate, logits, source, numbers = drawn(7, 5)
    mask = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]).bool()
    tokens = clock(source, normalized=False)
    whole = clock_filter(rate, logits, tokens, mask=mask, **numbers)
    state: ClockState | None = None
    centers, variances = [], []
    for piece in (slice(0, cut), slice(cut, 7)):
        found = clock_filter(
            rate[..., piece],
            logits[:, :, piece],
            tokens,
            mask=mask[:, piece],
            state=state,
            **numbers,
        )
        state = found.state
        centers.append(found.center)
        variances.append(found.variance)
    assert torch.equal(torch.cat(centers, -1), whole.center)
    assert torch.equal(torch.cat(variances, -1), whole.variance)
    assert state is not None
    assert torch.equal(state.frames, whole.state.frames)
    assert state.frames.tolist() == [3, 5]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: str) -> None:
    rate, logits, source, numbers = drawn(6, 5)
    tokens = clock(source, normalized=False)
    bare = clock_filter(rate, logits, tokens, **numbers)
    pad, noise = torch.full((2, 3, 4), 7.0).double(), torch.full((2, 3, 4, 5), 9.0).double()
    joined = [(pad, rate), (noise, logits)] if side == "left" else [(rate, pad), (logits, noise)]
    mask = torch.tensor([0] * 4 + [1] * 6 if side == "left" else [1] * 6 + [0] * 4).bool()
    padded = clock_filter(
        torch.cat(joined[0], -1),
        torch.cat(joined[1], 2),
        tokens,
        mask=mask.expand(2, -1),
        **numbers,
    )
    assert torch.equal(padded.center[..., mask], bare.center)
    assert torch.equal(padded.state.position, bare.state.position)
    extra = torch.cat([source, torch.full((2, 3, 2), 3.0).double()], -1)
    known = (torch.arange(7) < 5).expand(2, -1)
    more = torch.cat([logits, torch.full((2, 3, 6, 2), 30.0).double()], -1)
    wider = clock_filter(rate, more, clock(extra, normalized=False, mask=known), **numbers)
    torch.testing.assert_close(wider.center, bare.center, rtol=1e-14, atol=1e-14)


def test_the_future_changes_no_bit() -> None:
    rate, logits, source, numbers = drawn(7, 5)
    tokens = clock(source, normalized=False)
    whole = clock_filter(rate, logits, tokens, **numbers)
    for cut in range(1, 7):
        later, other = rate.clone(), logits.clone()
        later[..., cut:], other[:, :, cut:] = 5.0, math.nan
        changed = clock_filter(later, other, tokens, **numbers)
        assert torch.equal(changed.center[..., :cut], whole.center[..., :cut])
        assert torch.equal(changed.variance[..., :cut], whole.variance[..., :cut])


def test_heads_of_a_source_are_shared() -> None:
    rate, logits, source, numbers = drawn(6, 5, heads=4)
    shared = clock(source[:, :2], normalized=False)
    each = clock(source[:, :2].repeat_interleave(2, dim=1), normalized=False)
    ours, theirs = (clock_filter(rate, logits, x, **numbers) for x in (shared, each))
    assert torch.equal(ours.center, theirs.center)


def truth(tokens: Tensor, frames: int) -> Tensor:
    """Perfect content (1, 1, frame, key): frames spread evenly over the tokens' time."""
    ends = tokens.cumsum(-1)
    time = (torch.arange(frames) + 0.5) / frames * ends[-1]
    index = torch.searchsorted(ends, time).clamp(max=len(tokens) - 1)
    heard = torch.full((frames, len(tokens)), -20.0, dtype=torch.float64)
    heard[torch.arange(frames), index] = 20.0
    return heard[None, None]


@pytest.mark.parametrize("tempo", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_with_perfect_content_the_total_is_passed_in_time(tempo: float, count: int) -> None:
    """Every gain and tempo gain: within 1.1 times the true length the clock is past the end.

    After the true end the frames say the last token, for ever.
    """
    tokens = torch.linspace(0.5, 1.5, count, dtype=torch.float64)
    frames = round(8 * count / tempo)
    content = truth(tokens, frames)
    extra = math.ceil(0.1 * frames)
    content = torch.cat([content, content[:, :, -1:].expand(-1, -1, extra, -1)], 2)
    for gain in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        for tempo_gain in (0.0, 0.1, 0.5, 1.0):
            # Rates are those of the true tempo, as a head that ticks on the frames learns them.
            rate = torch.full((1, 1, frames + extra), tokens.sum().item() / frames).double()
            found = clock_filter(
                rate,
                content,
                clock(tokens[None, None], normalized=False),
                gain=gain,
                tempo_gain=tempo_gain,
            )
            end = found.state.position.item()
            assert end >= tokens.sum().item(), (gain, tempo_gain, end, tokens.sum().item())


def test_it_follows_a_tempo_that_its_rates_do_not_say() -> None:
    """At 0.6 of the rates' tempo the running clock is off by far, the filter is not."""
    tokens = torch.ones(12, dtype=torch.float64)
    content = truth(tokens, 160)
    rate = torch.full((1, 1, 160), 12 / 96).double()  # the tempo of training: 96 frames
    place = (torch.arange(160) + 0.5) * 12 / 160
    source = clock(tokens[None, None], normalized=False)
    errors = []
    for gain in (0.0, 0.5):
        found = clock_filter(rate, content, source, gain=gain, tempo_gain=0.1, spread=0.1)
        errors.append((found.center[0, 0] - place).abs().max().item())
    assert errors[0] > 4.0
    assert errors[1] < 0.8


@pytest.mark.slow
def test_frame_by_frame_is_the_full_pass_over_10_000_frames() -> None:
    rate, logits, source, numbers = drawn(10_000, 50, batch=1, heads=2)
    tokens = clock(source, normalized=False)
    whole = clock_filter(rate * 0.01, logits, tokens, **numbers)
    state, centers = None, []
    for t in range(10_000):
        found = clock_filter(
            rate[..., t : t + 1] * 0.01, logits[:, :, t : t + 1], tokens, state=state, **numbers
        )
        state = found.state
        centers.append(found.center)
    torch.testing.assert_close(torch.cat(centers, -1), whole.center, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 3, 6, 5), "logits must be"),
        ((2, 2, 7, 5), "logits must be"),
        ((2, 3, 7, 4), "logits must be"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], says: str, unchecked: None
) -> None:
    rate, _, source, _ = drawn(7, 5)
    with pytest.raises(ValueError, match=says):
        clock_filter(rate, torch.zeros(shape), clock(source, normalized=False))
    with pytest.raises(ValueError, match="make the source's with normalized=False"):
        clock_filter(rate, torch.zeros(2, 3, 7, 5), clock(source))
    with pytest.raises(ValueError, match="mask must be"):
        clock_filter(
            rate,
            torch.zeros(2, 3, 7, 5),
            clock(source, normalized=False),
            mask=torch.ones(2, 6, dtype=torch.bool),
        )


@pytest.mark.parametrize("padding", ["none", "left", "right", "hole", "row"])
@pytest.mark.parametrize("chunk", [2**21, 9000])
def test_of_many_tokens_only_those_that_can_matter_are_looked_at(
    padding: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 tokens, 60 frames: windows and stretches of frames against the plain loop."""
    monkeypatch.setattr(scan, "CHUNK", chunk)
    looked: list[int] = []
    only = scan.Given.only

    def watched(self: scan.Given, index: Tensor, beyond: Tensor | None = None) -> scan.Given:
        looked.append(index.shape[-1])
        return only(self, index, beyond)

    monkeypatch.setattr(scan.Given, "only", watched)
    rate, logits, source, numbers = drawn(60, 300)
    rate = rate * 8  # through most of the tokens
    kept = torch.ones(2, 300, dtype=torch.bool)
    hidden = {"none": [], "left": range(20), "right": range(250, 300), "hole": range(90, 140)}
    kept[0, [*hidden.get(padding, [])]] = False
    if padding == "row":
        kept[1] = False

    def run(path: Any, *given: Tensor) -> tuple[Tensor, ...]:
        tokens_clock = clock(given[2], normalized=False, mask=kept)
        options: dict[str, Any] = dict(zip(NAMES, given[3:], strict=True))
        return parts(clock_filter(given[0], given[1], tokens_clock, path=path, **options))

    inputs = [x.requires_grad_() for x in (rate, logits, source, *numbers.values())]
    both = [run(path, *inputs) for path in ("scan", "direct")]
    for ours, exact in zip(*both, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    weights = [torch.randn(x.shape, dtype=torch.float64) for x in both[0]]
    sums = [sum((x * w).sum() for x, w in zip(each, weights, strict=True)) for each in both]
    found = [torch.autograd.grad(each, inputs) for each in sums]  # type: ignore[arg-type]
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-7, atol=1e-7 * float(exact.abs().max()))
    if padding != "row":  # a row without tokens has all of them in one place
        assert min(looked) < 100  # of 300


@pytest.mark.parametrize("path", ["scan", "direct"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_padded_frames_need_not_be_numbers(path: Any, bad: float) -> None:
    rate, logits, source, numbers = drawn(7, 5)
    real = torch.tensor(MASKS["ragged"], dtype=torch.bool)
    options = {**numbers, "mask": real, "path": path}
    good = clock_filter(rate, logits, clock(source, normalized=False), **options)
    rate, logits = rate.clone(), logits.clone()
    rate[~real[:, None].expand_as(rate)] = bad
    logits[~real[:, None].expand_as(rate)] = bad
    logits[1, :, 0] = bad  # a row's first frame does not listen
    found = clock_filter(rate, logits, clock(source, normalized=False), **options)
    for ours, theirs in zip(parts(found), parts(good), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_have_gradients() -> None:
    rate, logits, source, numbers = drawn(5, 4, batch=1, heads=2)
    inside = [x.requires_grad_() for x in (rate, logits, *numbers.values())]

    def run(rate: Tensor, logits: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        options = dict(zip(NAMES, given, strict=True))
        return parts(clock_filter(rate, logits, clock(source, normalized=False), **options))

    assert torch.autograd.gradgradcheck(run, inside, eps=1e-6, atol=1e-5, fast_mode=True)


def test_tokens_hidden_in_some_frames_alone_are_looked_for_among_all() -> None:
    """From 256 tokens on: the nearest token to the clock is hidden from frame 5 on."""
    rate = torch.full((1, 1, 20), 0.1, dtype=torch.float64)
    state = ClockState(
        torch.full((1, 1), 112.0).double(),
        torch.full((1, 1), 0.05).double(),
        torch.zeros(1, 1).double(),
        torch.ones(1, dtype=torch.int64),
    )
    logits = torch.randn(1, 1, 20, 300, dtype=torch.float64)
    logits[:, :, 5:, 60:200] = -torch.inf
    source = clock(torch.ones(1, 1, 300).double(), normalized=False)
    scan, direct = (
        clock_filter(rate, logits, source, state=state, path=path) for path in ("scan", "direct")
    )
    assert direct.center.isfinite().all()
    torch.testing.assert_close(scan.center, direct.center, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("keys", [5, 300])
def test_an_empty_batch_is_filtered(keys: int) -> None:
    source = clock(torch.ones(0, 2, keys).double(), normalized=False)
    found = clock_filter(torch.ones(0, 2, 7), torch.zeros(0, 2, 7, keys), source)
    assert found.center.shape == (0, 2, 7)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gain": 1.5}, r"gain lies in \[0, 1\]; it is 1.5"),
        ({"tempo_gain": -0.1}, r"tempo_gain lies in \[0, 1\]"),
        ({"gain": math.nan}, "it is nan"),
        ({"diffusion": -1.0}, r"diffusion lies in \[0, inf\)"),
        ({"search": math.inf}, r"search lies in \[0, inf\); it is inf"),
        ({"start_variance": -5.0}, "start_variance lies in"),
        ({"gain": torch.ones(2)}, r"gain is one number or one per head \(3\), but there are 2"),
        ({"path": "scna"}, "path is scan or direct; it is 'scna'"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    rate, logits, source, _ = drawn(4, 5)
    with pytest.raises(ValueError, match=says):
        clock_filter(rate, logits, clock(source, normalized=False), **options)


@pytest.mark.usefixtures("unchecked")
def test_states_masks_and_floors_that_do_not_fit_are_refused() -> None:
    rate, logits, source, _ = drawn(4, 5)
    running = clock(source, normalized=False)
    found = clock_filter(rate, logits, running)
    with pytest.raises(ValueError, match="goes on with its own state"):
        clock_filter(rate, logits, running, state=found.state.rows(torch.tensor([0])))
    with pytest.raises(TypeError, match="mask must be boolean"):
        clock_filter(rate, logits, running, mask=torch.ones(2, 4))
    with pytest.raises(ValueError, match="floor is a spread in clock time"):
        filter_lift(found, running, torch.ones(2, 3, 5, 8), floor=-1.0)
