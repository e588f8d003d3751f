"""Speech transformers: voices, guessed lengths, padding, streaming, equal sizes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import resonant
from resonant.lab.domains import EXPERIMENTS
from resonant.models.architectures import load_model
from resonant.models.frame_configs import (
    SPEECH_PRESETS,
    FrameTransformerConfig,
    SpeechTransformerConfig,
    speech_preset,
)
from resonant.models.frames import FrameTransformer
from resonant.models.speech import SpeechTransformer, speech_transformer

SMALL = SpeechTransformerConfig(
    vocabulary=20, features=8, width=16, heads=2, hidden=24, encoder_hidden=24, voices=2
)
MECHANISMS = ("softmax", "gaussian-mixture", "clock")
SYMBOLS = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 3, 4, 0, 0, 0]])
PADDING = torch.arange(6) >= torch.tensor([[6], [3]])
VOICE = torch.tensor([0, 1])


def build(mechanism: str = "clock", **changes: Any) -> SpeechTransformer:
    torch.manual_seed(0)
    model = speech_transformer(SMALL, mechanism=mechanism, **changes).double().eval()
    nn.init.normal_(model.duration.weight, std=0.5)
    for block in model.blocks:  # rates that depend on features, as after training
        for projection in ("q_rate", "k_rate", "mixture"):
            if hasattr(block.cross, projection):
                nn.init.normal_(getattr(block.cross, projection).weight, std=0.2)  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_rows_of_a_batch_are_the_rows_alone(mechanism: str) -> None:
    model = build(mechanism)
    made, lengths = model.speak(SYMBOLS, VOICE, symbol_padding=PADDING)
    for row, symbols in enumerate((6, 3)):
        of = slice(row, row + 1)
        alone, length = model.speak(SYMBOLS[of, :symbols], VOICE[of])
        assert length.tolist() == lengths[of].tolist()
        torch.testing.assert_close(made[row, : int(length)], alone[0])
        assert (made[row, int(length) :] == 0).all()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_voices_change_what_is_made(mechanism: str) -> None:
    model = build(mechanism)
    frames = torch.zeros(2, 9, dtype=torch.bool)
    first, second = (model(SYMBOLS, frames, voice=torch.tensor([v, v])).frames for v in (0, 1))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_streaming_is_the_full_pass(mechanism: str) -> None:
    """Frame by frame with caches, and at once over what was made."""
    model = build(mechanism, decoding="autoregressive", symbols_per_frame=0.3)
    masks: dict[str, Any] = {"symbol_padding": PADDING, "voice": VOICE}
    made = model.decode(SYMBOLS, **masks, most=25)
    padding = torch.arange(made.frames.shape[1]) >= made.lengths.unsqueeze(1)
    with torch.no_grad():
        full = model(SYMBOLS, padding, frames=made.frames, need_weights=True, **masks)
    for row, length in enumerate(made.lengths.tolist()):
        torch.testing.assert_close(
            made.frames[row, :length], full.frames[row, :length], atol=1e-9, rtol=1e-9
        )
        for ours, theirs in zip(made.weights, full.weights, strict=True):
            torch.testing.assert_close(ours[row, :, :length], theirs[row, :, :length])


def test_guessed_lengths_are_sums_over_phonemes_and_move_the_guess_alone() -> None:
    model = build()
    lengths = model.lengths(SYMBOLS, VOICE, symbol_padding=PADDING)
    encoded = model.encode(SYMBOLS, PADDING, VOICE)
    each = nn.functional.softplus(encoded @ model.duration.weight[0] + model.duration.bias)
    torch.testing.assert_close(lengths, (each * ~PADDING).sum(1))
    lengths.sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"duration.weight", "duration.bias"}
    fresh = speech_transformer(SMALL).double()
    start = fresh.lengths(SYMBOLS, VOICE, symbol_padding=PADDING)
    torch.testing.assert_close(start, torch.tensor([6.0, 3.0]).double() / SMALL.symbols_per_frame)


def test_tempo_divides_the_length() -> None:
    model = build()
    _, usual = model.speak(SYMBOLS, VOICE, symbol_padding=PADDING)
    _, slow = model.speak(SYMBOLS, VOICE, symbol_padding=PADDING, tempo=0.5)
    assert ((slow - 2 * usual).abs() <= 1).all()
    with pytest.raises(ValueError, match=r"tempo is 0\.2 to 5; it is 0"):
        model.speak(SYMBOLS, VOICE, tempo=0.0)
    running = build(decoding="autoregressive")
    cross: Any = running.blocks[-1].cross
    nn.init.constant_(cross.q_rate.bias, -20.0)  # a clock that stands still
    frames, lengths = running.speak(SYMBOLS, VOICE, symbol_padding=PADDING)
    guess = running.lengths(SYMBOLS, VOICE, symbol_padding=PADDING).round().long()
    assert lengths.tolist() == (3 * guess).tolist()  # each row's own, whatever its neighbour does
    assert frames.shape[:2] == (2, int(lengths.max()))
    assert (frames[1, int(lengths[1]) :] == 0).all()
    nn.init.constant_(cross.q_rate.bias, -2.0)
    _, usual = running.speak(SYMBOLS, VOICE, symbol_padding=PADDING)
    _, fast = running.speak(SYMBOLS, VOICE, symbol_padding=PADDING, tempo=4.0)
    assert (fast < usual).all()
    with pytest.raises(ValueError, match="SpeechTransformer has no tempo"):
        build("softmax", decoding="autoregressive").speak(SYMBOLS, VOICE, tempo=2.0)


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
def test_nothing_is_spoken_of_no_utterances(decoding: str) -> None:
    frames, lengths = build(decoding=decoding).speak(SYMBOLS[:0], VOICE[:0])
    assert len(frames) == len(lengths) == 0


def test_voices_are_needed_where_there_are_any_and_refused_elsewhere() -> None:
    frames = torch.zeros(2, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="SpeechTransformer needs a voice for each utterance"):
        build()(SYMBOLS, frames)
    plain = FrameTransformer(FrameTransformerConfig(width=16, heads=2))
    with pytest.raises(ValueError, match="FrameTransformer has no voices"):
        plain(SYMBOLS, frames, voice=VOICE)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = build().float()
    model.save_pretrained(tmp_path)
    again = SpeechTransformer.from_pretrained(tmp_path).eval()
    assert again.config == model.config
    made, same = (each.speak(SYMBOLS, VOICE)[0] for each in (model, again))
    assert torch.equal(made, same)
    assert isinstance(load_model(tmp_path), SpeechTransformer)
    with pytest.raises(ValueError, match="holds a model of architecture 'speech', not 'frames'"):
        FrameTransformer.from_pretrained(tmp_path)


def test_presets_and_changes() -> None:
    assert set(SPEECH_PRESETS) == {"small", "full"}
    assert speech_preset("full").features == 80
    assert (speech_preset("small").features, speech_preset("small").layers) == (40, 2)
    with pytest.raises(ValueError, match="no speech preset is called 'smal'; did you mean 'small'"):
        speech_transformer("smal")
    with pytest.raises(ValueError, match=r"model\.attention\.mechanism is one of softmax"):
        speech_transformer(SMALL, mechanism="hard")
    with pytest.raises(TypeError, match="unexpected keyword"):
        speech_transformer(SMALL, depth=3)
    with pytest.raises(ValueError, match=r"model\.voices must be at least 1; it is 0"):
        speech_transformer(SMALL, voices=0)
    assert resonant.speech_transformer is speech_transformer


@pytest.mark.parametrize("name", ["speech", "speech-full"])
def test_arms_have_one_size(name: str) -> None:
    experiment = EXPERIMENTS[name]
    sizes = {}
    for arm in experiment.arms:
        config = experiment.config(experiment.base, arm, 0, {}).model
        assert isinstance(config, SpeechTransformerConfig)
        with torch.device("meta"):
            sizes[arm.name] = sum(p.numel() for p in SpeechTransformer(config).parameters())
    for arm in experiment.arms:
        assert abs(sizes[arm.name] / sizes[arm.control or "softmax"] - 1) < 0.01, arm.name


def test_a_configuration_knows_its_architecture() -> None:
    with pytest.raises(ValueError, match=r"model\.architecture is one of speech"):
        dataclasses.replace(SMALL, architecture="frames")
