"""Clocks that listen as a module: caches, padding, grouped heads, precision, export."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import ClockState
from resonant.nn import ClockAttention, padded_queries, trusted
from resonant.nn.cache import CrossCache

WIDTH, HEADS = 16, 4


def listening(**options: Any) -> ClockAttention:
    """A module with learned rates, in float64 and evaluation."""
    torch.manual_seed(0)
    options = {"normalized": False, "listen": True, "tempo": True, "query_rate": 0.4} | options
    made = ClockAttention(WIDTH, HEADS, **options).double().eval()
    for name, parameter in made.named_parameters():
        if name.endswith("rate.weight"):
            nn.init.normal_(parameter, std=0.3)
    return made


def drawn(frames: int = 12, tokens: int = 7, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, frames, WIDTH), (batch, tokens, WIDTH)
    query, key = (torch.randn(*x, generator=generator, dtype=torch.float64) for x in shape)
    return query, key


@pytest.mark.parametrize("heads", [None, 2], ids=["own", "grouped"])
@pytest.mark.parametrize("tempo", [False, True])
def test_chunks_are_the_full_pass(heads: int | None, tempo: bool) -> None:
    module = listening(num_key_value_heads=heads, tempo=tempo)
    query, key = drawn()
    padding = torch.arange(7) >= torch.tensor([[7], [5]])
    whole, weights = module(query, key, key_padding_mask=padding, need_weights=True)
    assert weights[1, :, :, 5:].abs().max() == 0
    cache = module.new_cache()
    with torch.no_grad():
        parts = [
            module(each, key, key_padding_mask=padding, cache=cache)[0]
            for each in query.split([1, 4, 2, 5], dim=1)
        ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    assert cache.length == 12
    assert cache.nbytes > 0
    assert cache.listening is not None
    assert cache.listening.frames.tolist() == [12, 12]


@pytest.mark.parametrize("how", ["argument", "context"])
@pytest.mark.parametrize("side", ["left", "right", "ragged"])
def test_padded_frames_neither_listen_nor_tick(side: str, how: str) -> None:
    module = listening()
    query, key = drawn()
    real = {"left": range(3, 12), "right": range(9), "ragged": [0, 2, 3, 5, 6, 8, 9, 10, 11]}[side]
    padding = torch.ones(2, 12, dtype=torch.bool)
    padding[:, [*real]] = False
    if how == "argument":
        padded = module(query, key, query_padding_mask=padding)[0]
    else:
        with padded_queries(module, padding):
            padded = module(query, key)[0]
    alone = module(query[:, [*real]], key)[0]
    torch.testing.assert_close(padded[:, [*real]], alone, rtol=0, atol=1e-12)
    cache = module.new_cache()
    with torch.no_grad():
        for each, hidden in zip(query.split(4, 1), padding.split(4, 1), strict=True):
            module(each, key, query_padding_mask=hidden, cache=cache)
    assert cache.listening is not None
    assert cache.listening.frames.tolist() == [9, 9]


def test_the_future_changes_no_bit() -> None:
    module = listening()
    query, key = drawn()
    before = module(query, key)[0]
    query[:, 8:] += 1.0
    after = module(query, key)[0]
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.equal(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize("name", ["diffusion", "search", "spread", "renewal"])
def test_numbers_without_end_stay_numbers(name: str) -> None:
    options = {"diffusion": torch.inf} if name == "diffusion" else {}
    module = listening(**options).float()
    assert module.filter is not None
    if name != "diffusion":
        getattr(module.filter, name).value.data.fill_(100.0)
    frames, source = (x.float() for x in drawn())
    assert module(frames, source)[0].isfinite().all()


def test_half_trust_is_half_the_gain_and_none_the_running_clock() -> None:
    module = listening(tempo=True)
    frames, source = drawn()
    whole, _ = module(frames, source)
    with trusted(module, 0.5):
        half, _ = module(frames, source)
    halved = listening(tempo=True)
    assert halved.filter is not None
    gain = halved.filter.gain
    gain.value.data = (0.5 * gain()).logit()
    torch.testing.assert_close(half, halved(frames, source)[0], atol=1e-12, rtol=1e-12)
    assert not torch.allclose(half, whole)
    assert torch.equal(module(frames, source)[0], whole)  # only inside the block
    with trusted(module, 0.0):
        none, _ = module(frames, source)
    gain.value.data.fill_(-torch.inf)
    assert torch.equal(none, halved(frames, source)[0])
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share is of a correction"), trusted(module, share):
            pass
    running = ClockAttention(16, 4, normalized=False)
    with pytest.raises(ValueError, match="holds no ClockAttention with"), trusted(running, 0.5):
        pass


def test_rows_are_reordered_with_their_state() -> None:
    module = listening()
    query, key = drawn()
    key = torch.stack([key[0], 2 * key[1]])
    cache = module.new_cache()
    with torch.no_grad():
        module(query[:, :5], key, cache=cache)
        cache.reorder(torch.tensor([1, 0, 1]))
        found = module(query[[1, 0, 1], 5:], key[[1, 0, 1]], cache=cache)[0]
        whole = module(query, key)[0][:, 5:]
    torch.testing.assert_close(found, whole[[1, 0, 1]], rtol=0, atol=1e-12)


def test_every_parameter_has_a_gradient() -> None:
    module = listening().train()
    query, key = drawn()
    module(query, key)[0].square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_states_are_float64_under_autocast() -> None:
    module = listening().float()
    query, key = (x.float() for x in drawn(frames=60))
    exact = module(query, key)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = module(query, key)[0]
    assert (cast.float() - exact).abs().max() < 0.02 * exact.abs().max()
    cache = module.new_cache()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        module(query, key, cache=cache)
    assert cache.listening is not None
    assert cache.listening.position.dtype == torch.float64
    with torch.no_grad():
        other = module.new_cache()
        module(query, key, cache=other)
    assert other.listening is not None
    assert torch.equal(other.listening.position, cache.listening.position)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"normalized": True}, "only running clocks listen"),
        ({"score": "density"}, "clocks that listen have the frozen score"),
        ({"measure": True}, "clocks that listen have the frozen score"),
        ({"listen": False}, "tempo is of clocks that listen"),
    ],
)
def test_what_does_not_listen_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        listening(**options)


def test_a_cache_of_another_kind_is_refused() -> None:
    query, key = drawn()
    cache = listening().new_cache()
    with torch.no_grad():
        listening()(query, key, cache=cache)
        with pytest.raises(TypeError, match="begun by clocks that listen; make a new one"):
            listening(listen=False, tempo=False)(query, key, cache=cache)


class Step(nn.Module):
    """One frame of decoding, its state in and out."""

    def __init__(self, module: ClockAttention) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, frame: Tensor, key: Tensor, source: dict[str, Tensor], state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The output of the frame, and the state after it."""
        cache = CrossCache()
        cache.source, cache.listening = source, ClockState(*state)
        output = self.module(frame, key, cache=cache)[0]
        assert cache.listening is not None
        return output, [*vars(cache.listening).values()]


@pytest.mark.usefixtures("unchecked")
def test_a_step_of_decoding_is_exported() -> None:
    module = listening()
    query, key = drawn()
    cache = module.new_cache()
    with torch.no_grad():
        module(query[:, :3], key, cache=cache)
        assert cache.listening is not None
        state = [*vars(cache.listening).values()]
        given = (query[:, 3:4], key, dict(cache.source), state)
        program = torch.export.export(Step(module), given)
        for t in range(3, 12):
            output, state = program.module()(query[:, t : t + 1], key, dict(cache.source), state)
        whole = module(query, key)[0]
    torch.testing.assert_close(output[:, 0], whole[:, -1], rtol=0, atol=1e-12)
