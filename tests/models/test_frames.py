"""From symbols to frames: padding, causality, decoding frame by frame, saving."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.alignment.symbols import Utterances, utterances
from resonant.models.frame_configs import CrossAttentionConfig, FrameTransformerConfig
from resonant.models.frames import FrameTransformer
from resonant.nn import paced

SMALL = FrameTransformerConfig(width=16, heads=2, hidden=24, encoder_hidden=24)
CROSS = {
    "softmax": CrossAttentionConfig(),
    "mixture": CrossAttentionConfig(mechanism="gaussian-mixture"),
    "clock": CrossAttentionConfig(mechanism="clock"),
    "clock-interval": CrossAttentionConfig(mechanism="clock", score="interval"),
    "clock-measure": CrossAttentionConfig(mechanism="clock", measure=True),
    "forward": CrossAttentionConfig(mechanism="forward"),
    "clock-listen": CrossAttentionConfig(mechanism="clock", listen=True),
    "clock-tempo": CrossAttentionConfig(mechanism="clock", listen=True, tempo=True),
}
LISTENING = ("clock-listen", "clock-tempo")  # frame by frame alone
BATCH = utterances(SymbolsConfig(shortest=4, longest=9), "train", key=(0, 0), count=3)


def build(name: str, decoding: str = "parallel", **changes: Any) -> FrameTransformer:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, attention=CROSS[name], decoding=decoding, **changes)
    model = FrameTransformer(config).double().eval()
    for block in model.blocks:  # rates that depend on features, as after training
        for projection in ("q_rate", "k_rate", "mixture", "move"):
            if hasattr(block.cross, projection):
                nn.init.normal_(getattr(block.cross, projection).weight, std=0.2)  # type: ignore[union-attr]
    return model


def run(model: FrameTransformer, batch: Utterances, **options: Any) -> Any:
    frames = None if model.parallel else batch.frames.double()
    masks = {"symbol_padding": batch.symbol_padding, "frames": frames}
    return model(batch.symbols, batch.frame_padding, **masks, **options)


def row_alone(batch: Utterances, row: int) -> Utterances:
    symbols = int((batch.durations[row] > 0).sum())
    frames = int(batch.durations[row].sum())
    of = slice(row, row + 1)
    return Utterances(
        batch.symbols[of, :symbols],
        batch.durations[of, :symbols],
        batch.expected[of, :symbols],
        batch.frames[of, :frames],
    )


@pytest.mark.parametrize("name", CROSS)
@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
@pytest.mark.parametrize("position", ["sinusoidal", "scaled", "none"])
def test_rows_of_a_batch_are_the_rows_alone(name: str, decoding: str, position: str) -> None:
    if position == "scaled" and decoding == "autoregressive":
        return
    if name in LISTENING and decoding == "parallel":
        with pytest.raises(ValueError, match="clocks listen frame by frame"):
            build(name, decoding)
        return
    model = build(name, decoding, position=position)
    together = run(model, BATCH, need_weights=True)
    assert len(together.weights) == SMALL.layers
    for row in range(3):
        one = row_alone(BATCH, row)
        alone = run(model, one, need_weights=True)
        length = one.frames.shape[1]
        torch.testing.assert_close(together.frames[row, :length], alone.frames[0])
        seen = together.weights[-1][row, :, :length, : one.symbols.shape[1]]
        torch.testing.assert_close(seen, alone.weights[-1][0])


@pytest.mark.parametrize("name", CROSS)
def test_later_frames_change_no_bit_of_earlier_ones(name: str) -> None:
    model = build(name, "autoregressive").float()
    frames = BATCH.frames
    later = frames.clone()
    later[:, 20:] = 10 * torch.randn_like(later[:, 20:])
    masks = {"symbol_padding": BATCH.symbol_padding}
    outputs = [
        model(BATCH.symbols, BATCH.frame_padding, frames=x, **masks) for x in (frames, later)
    ]
    # A frame sees those before it: frame 20 is the first that may notice frame 20 in frame 21.
    assert torch.equal(outputs[0].frames[:, :21], outputs[1].frames[:, :21])
    assert not torch.equal(outputs[0].frames[:, 21:], outputs[1].frames[:, 21:])


@pytest.mark.parametrize("name", CROSS)
def test_decoding_is_the_full_pass_over_what_was_decoded(name: str) -> None:
    model = build(name, "autoregressive")
    made = model.decode(BATCH.symbols, symbol_padding=BATCH.symbol_padding, most=40)
    steps = made.frames.shape[1]
    padding = torch.arange(steps) >= made.lengths.unsqueeze(1)
    with torch.no_grad():
        full = model(
            BATCH.symbols,
            padding,
            symbol_padding=BATCH.symbol_padding,
            frames=made.frames,
            need_weights=True,
        )
    for row, length in enumerate(made.lengths.tolist()):
        torch.testing.assert_close(made.frames[row, :length], full.frames[row, :length])
        for ours, theirs in zip(made.weights, full.weights or (), strict=True):
            torch.testing.assert_close(ours[row, :, :length], theirs[row, :, :length])
        assert (made.frames[row, length:] == 0).all()


def test_clocks_stop_by_themselves_and_a_cap_is_no_stop() -> None:
    model = build("clock", "autoregressive", symbols_per_frame=0.5)
    for block in model.blocks:
        nn.init.zeros_(block.cross.q_rate.weight)  # type: ignore[union-attr]
        nn.init.zeros_(block.cross.k_rate.weight)  # type: ignore[union-attr]
    masks: dict[str, Any] = {"symbol_padding": BATCH.symbol_padding}
    symbols = (~BATCH.symbol_padding).sum(1)
    made = model.decode(BATCH.symbols, **masks, most=100)
    assert made.stopped.all()
    assert (made.lengths - 2 * symbols).abs().max() <= 1
    short = model.decode(BATCH.symbols, **masks, most=int(symbols.min()))
    assert not short.stopped.any()
    assert (short.lengths == symbols.min()).all()
    softmax = build("softmax", "autoregressive")
    assert softmax.stop is not None
    nn.init.constant_(softmax.stop.bias, 50.0)
    assert softmax.decode(BATCH.symbols, **masks).lengths.tolist() == [1, 1, 1]


def test_parallel_frames_come_from_positions_and_symbols_alone() -> None:
    """Without positions all frames start alike: plain softmax cannot tell them apart."""
    same = run(build("softmax", position="none"), row_alone(BATCH, 0)).frames
    torch.testing.assert_close(same, same[:, :1].expand_as(same))
    told = run(build("clock", position="none"), row_alone(BATCH, 0)).frames
    assert (told - told[:, :1]).abs().max() > 1e-2


def test_scaled_positions_do_not_know_the_tempo() -> None:
    """Twice the frames: the same pictures, each held twice as long (to within a half step)."""
    model = build("softmax", position="scaled")
    symbols = BATCH.symbols[:1, :4]
    short, long = (
        model.frame_positions(torch.zeros(1, n, dtype=torch.bool), symbols, None) for n in (20, 60)
    )
    assert isinstance(short, torch.Tensor)
    assert isinstance(long, torch.Tensor)
    torch.testing.assert_close(long[:, 1::3], short)


@pytest.mark.parametrize("name", CROSS)
@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
def test_saved_and_loaded(tmp_path: Path, name: str, decoding: str) -> None:
    if name in LISTENING and decoding == "parallel":
        return
    model = build(name, decoding)
    model.save_pretrained(tmp_path)
    again = FrameTransformer.from_pretrained(tmp_path).double().eval()
    single = build(name, decoding).float().double()
    single.load_state_dict(again.state_dict())
    assert again.config == model.config
    torch.testing.assert_close(
        run(again, BATCH).frames, run(model, BATCH).frames, atol=1e-5, rtol=1e-5
    )


def test_what_does_not_fit_is_refused() -> None:
    parallel, next_frame = build("clock"), build("clock", "autoregressive")
    frames = BATCH.frames.double()
    with pytest.raises(ValueError, match="decoding is parallel, so the model takes no frames"):
        parallel(BATCH.symbols, BATCH.frame_padding, frames=frames)
    with pytest.raises(ValueError, match="the model needs the frames"):
        next_frame(BATCH.symbols, BATCH.frame_padding)
    with pytest.raises(ValueError, match="call the model with the number of frames"):
        parallel.decode(BATCH.symbols)


def test_a_mode_of_evaluation_is_left_as_it_was() -> None:
    model = build("clock", "autoregressive").train()
    model.blocks[0].eval()
    model.decode(BATCH.symbols, symbol_padding=BATCH.symbol_padding, most=3)
    assert model.training
    assert not model.blocks[0].training


@pytest.mark.parametrize("name", ["clock", "mixture", "clock-listen", "clock-tempo"])
def test_decoding_goes_faster_or_slower_on_purpose(name: str) -> None:
    model = build(name, "autoregressive", symbols_per_frame=0.25)
    for block in model.blocks:  # rates that do not depend on features
        for projection in ("q_rate", "k_rate"):
            if hasattr(block.cross, projection):
                nn.init.zeros_(getattr(block.cross, projection).weight)  # type: ignore[union-attr]
    masks: dict[str, Any] = {"symbol_padding": BATCH.symbol_padding, "most": 200}
    lengths = {
        tempo: model.decode(BATCH.symbols, tempo=tempo, **masks).lengths.double()
        for tempo in (0.5, 1.0, 2.0)
    }
    assert (lengths[0.5] > 1.5 * lengths[1.0]).all()
    assert (lengths[2.0] < 0.7 * lengths[1.0]).all()
    again = model.decode(BATCH.symbols, **masks).lengths.double()
    assert torch.equal(again, lengths[1.0])


def test_what_keeps_no_time_has_no_tempo() -> None:
    with pytest.raises(ValueError, match="FrameTransformer has no tempo"):
        build("softmax", "autoregressive").decode(BATCH.symbols, tempo=2.0)
    for tempo in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="tempo is a finite number above 0"):
            build("clock", "autoregressive").decode(BATCH.symbols, tempo=tempo)


def test_normalized_clocks_have_no_pace() -> None:
    model, says = build("clock"), "normalized clocks, whose tempo is the number of frames"
    with pytest.raises(ValueError, match=says), paced(model, 2.0):
        pass


def test_frames_to_make_and_chances_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="most counts frames, so it is at least 1; it is 0"):
        build("clock", "autoregressive").decode(BATCH.symbols, most=0)
    with pytest.raises(ValueError, match=r"model\.symbols_per_frame must be below 1; it is 1\.5"):
        build("forward", "autoregressive", symbols_per_frame=1.5)
