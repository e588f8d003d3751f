"""Models of pixels: a distribution over pictures, its cache, what it draws."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant import PixelModel, pixel_model
from resonant.cli.main import main
from resonant.models.language_configs import AttentionConfig, PositionConfig
from resonant.models.pixel_configs import PIXEL_PRESETS, PixelModelConfig

ARMS: list[dict[str, Any]] = [
    {},
    {"attention": AttentionConfig(window=5)},
    {"attention": AttentionConfig("krause", window=5)},
    {"attention": AttentionConfig("krause", window=9, top_k=4)},
    {"mechanism": "linear"},
    {"position": PositionConfig(kind="rotary"), "attention": AttentionConfig("krause")},
]


def small(**options: Any) -> PixelModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocabulary": 4,
        "rows": 5,
        "columns": 6,
        "width": 16,
        "heads": 2,
        "hidden": 24,
    }
    model = pixel_model(PixelModelConfig(), **(sizes | options)).double().eval()
    torch.nn.init.normal_(model.embedding.weight, std=0.3)  # far from the uniform guess
    return model


@pytest.mark.parametrize("options", ARMS, ids=str)
def test_probabilities_of_all_pictures_sum_to_one(options: dict[str, Any]) -> None:
    model = small(**options, vocabulary=3, rows=2, columns=2)
    every = torch.tensor([*itertools.product(range(3), repeat=4)]).reshape(-1, 2, 2, 1)
    with torch.no_grad():
        assert model.log_likelihood(every).exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("options", ARMS, ids=str)
def test_the_cache_is_the_full_pass(options: dict[str, Any]) -> None:
    model = small(**options, channels=3)
    shades = torch.randint(0, 4, (3, 90))
    tokens = model.inputs(shades)
    assert tokens[:, 0].tolist() == [4, 4, 4]
    with torch.no_grad():
        full, cache = model(tokens), model.new_cache()
        pieces = [model(tokens[:, :7], cache=cache), model(tokens[:, 7:20], cache=cache)]
        pieces += [model(tokens[:, i : i + 1], cache=cache) for i in range(20, 90)]
    assert full.shape == (3, 90, 4)
    torch.testing.assert_close(torch.cat(pieces, 1), full)


@pytest.mark.parametrize("options", ARMS, ids=str)
def test_later_pixels_change_nothing_before(options: dict[str, Any]) -> None:
    model = small(**options)
    tokens = model.inputs(torch.randint(0, 4, (2, 30)))
    other = tokens.clone()
    other[:, 17:] = (other[:, 17:] + 1) % 4
    with torch.no_grad():
        assert torch.equal(model(tokens)[:, :17], model(other)[:, :17])


def test_places_are_row_column_and_channel() -> None:
    model = small(channels=3)
    place: Any = model.position
    position = torch.arange(5 * 6 * 3).unsqueeze(0)
    found = place(position).unflatten(1, (5, 6, 3))
    expected = place.row.weight[3] + place.column.weight[4] + place.channel.weight[2]
    torch.testing.assert_close(found[0, 3, 4, 2], expected)


def test_drawing_and_completing() -> None:
    model = small(attention=AttentionConfig("krause", window=5), channels=2)
    drawn = model.draw(4, seed=3)
    assert drawn.shape == (4, 5, 6, 2)
    assert set(drawn.unique().tolist()) <= {0, 1, 2, 3}  # never the start token
    assert torch.equal(drawn, model.draw(4, seed=3))
    assert not torch.equal(drawn, model.draw(4, seed=4))
    completed = model.complete(drawn, 2, seed=9)
    assert torch.equal(completed[:, :2], drawn[:, :2])
    assert not torch.equal(completed[:, 2:], drawn[:, 2:])
    assert torch.equal(model.complete(drawn, 5, seed=9), drawn)
    greedy = model.complete(drawn, 2, temperature=0.0)
    assert torch.equal(greedy, model.complete(drawn, 2, temperature=0.0, seed=1))


def test_draws_follow_the_model() -> None:
    """Frequencies of 2 x 1 pictures are the probabilities."""
    model = small(vocabulary=3, rows=2, columns=1)
    every = torch.tensor([*itertools.product(range(3), repeat=2)]).reshape(-1, 2, 1, 1)
    with torch.no_grad():
        probability = model.log_likelihood(every).exp()
    drawn = model.draw(20_000, seed=0).flatten(1)
    counts = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 20_000
    torch.testing.assert_close(counts.double(), probability, atol=0.012, rtol=0.0)


def test_a_window_s_cache_does_not_grow() -> None:
    model = small(attention=AttentionConfig("krause", window=5), rows=9, columns=9)
    cache, held = model.new_cache(), []
    with torch.no_grad():
        for token in model.inputs(torch.randint(0, 4, (1, 81)))[0]:
            model(token.reshape(1, 1), cache=cache)
            held.append(cache.nbytes)
    assert len({*held[20:]}) == 1


@pytest.mark.slow
def test_time_per_pixel_is_flat() -> None:
    """Of pictures four times as large, in one interleaved run, median of three."""
    attention = AttentionConfig("krause", window=64, top_k=48)
    models = [pixel_model(attention=attention, rows=n, columns=n) for n in (20, 40)]
    times: list[list[float]] = [[], []]
    for _ in range(3):
        for model, kept in zip(models, times, strict=True):
            start = time.process_time()
            model.draw(1, seed=0)
            kept.append((time.process_time() - start) / model.config.length)
    small_one, large = (sorted(each)[1] for each in times)
    assert large <= 1.3 * small_one


def test_bytes_are_shades_too() -> None:
    model = small()
    shades = torch.randint(0, 4, (2, 5, 6, 1))
    assert torch.equal(model.log_likelihood(shades.byte()), model.log_likelihood(shades))


def test_a_saved_model_of_pixels_gets_its_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small(attention=AttentionConfig("krause", window=5), rows=14, columns=14)
    model.float().save_pretrained(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "FAILS" not in said
    assert "not checked" not in said
    assert main(["sample", str(tmp_path)]) == 2
    assert "holds a model of architecture 'pixels', which reads" in capsys.readouterr().err


def test_saved_models_come_back(tmp_path: Path) -> None:
    model = small(attention=AttentionConfig("krause", window=5)).float()
    model.save_pretrained(tmp_path)
    again = PixelModel.from_pretrained(tmp_path)
    assert again.config == model.config
    assert torch.equal(again.draw(2, seed=0), model.draw(2, seed=0))


@pytest.mark.usefixtures("unchecked")
def test_refusals() -> None:
    model = small()
    with pytest.raises(ValueError, match=r"takes pictures \(batch, 5, 6, 1\)"):
        model.log_likelihood(torch.zeros(1, 6, 5, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="rows to keep are 0 to 5"):
        model.complete(torch.zeros(1, 5, 6, 1, dtype=torch.long), 6)
    with pytest.raises(ValueError, match="shades are 0 to 3, but the pictures hold 0 to 4"):
        model.complete(torch.arange(30).clamp(max=4).reshape(1, 5, 6, 1), 2)
    with pytest.raises(TypeError, match="shades are whole numbers"):
        model.log_likelihood(torch.zeros(1, 5, 6, 1))
    with pytest.raises(ValueError, match="count must be at least 1"):
        model.draw(0)
    with pytest.raises(ValueError, match="has 30 numbers, but the sequence has 31"):
        model(torch.zeros(1, 31, dtype=torch.long))
    with pytest.raises(ValueError, match="rotary, morlet-relative or none"):
        PixelModelConfig(position=PositionConfig(kind="learned"))
    with pytest.raises(ValueError, match=r"model\.rows"):
        PixelModelConfig(rows=0)
    with pytest.raises(ValueError, match="no preset of pixels"):
        pixel_model("mnst-large")
    with torch.device("meta"):
        for name in PIXEL_PRESETS:
            assert pixel_model(name).config.vocabulary >= 16
