"""Vision transformers: who listens to whom, what is saved, what does not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant import Grid, swin_transformer, vision_transformer
from resonant.diagnostics import record_attention
from resonant.functional import record_paths
from resonant.models.architectures import build_model, load_model
from resonant.models.swin import SwinTransformer
from resonant.models.vision import VisionTransformer
from resonant.models.vision_configs import (
    SWIN_PRESETS,
    VISION_PRESETS,
    SwinTransformerConfig,
    VisionAttentionConfig,
    VisionTransformerConfig,
)
from resonant.nn import KrauseAttention

SMALL: dict[str, Any] = {"layers": 3, "width": 16, "heads": 2, "hidden": 24}


def krause(**options: Any) -> VisionAttentionConfig:
    return VisionAttentionConfig("krause", radius=1, **options)


def test_a_patch_reaches_as_far_as_layers_carry_it() -> None:
    """Without global tokens nearby patches alone would count; the class token sees all at once."""
    torch.manual_seed(0)
    model = vision_transformer(**SMALL, patch=2, attention=krause()).eval()
    pictures = torch.randn(1, 3, 32, 32)
    other = pictures.clone()
    other[..., 30:, 30:] += 1.0
    first, changed = (record_attention(model, x) for x in (pictures, other))
    moved = [
        (a.state != b.state).any(-1)[0] for a, b in zip(first.layers, changed.layers, strict=True)
    ]
    assert moved[0].nonzero().flatten().tolist() == [256]
    near = torch.tensor([0, 16 * 14 + 15 + 1, 16 * 15 + 14 + 1, 256])
    assert moved[1].nonzero().flatten().tolist() == near.tolist()


@pytest.mark.parametrize("size", [32, 48])
def test_everything_is_fused(size: int) -> None:
    model = vision_transformer(**SMALL, image_height=size, image_width=32)
    with record_paths() as taken:
        model(torch.randn(2, 3, size, 32))
    assert taken == ["fused"] * 3


@pytest.mark.parametrize("mechanism", ["softmax", "softmax-sink", "krause"])
@pytest.mark.parametrize("registers", [0, 3])
def test_neighbours_are_gathered(mechanism: str, registers: int) -> None:
    attention = VisionAttentionConfig(mechanism, radius=2, metric="chebyshev", top_k=4)
    model = vision_transformer(**SMALL, image_width=40, registers=registers, attention=attention)
    grid = Grid(8, 10, 2, "chebyshev", 1 + registers)
    assert {a.neighborhood for a in model.attentions()} == {grid}  # type: ignore[union-attr]
    with record_paths() as taken:
        logits = model(torch.randn(2, 3, 32, 40))
    assert taken == ["gathered"] * 3
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_top_k_grows_over_depth() -> None:
    assert krause(top_k=2).top_ks(12) == [2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 4]
    assert krause(top_k=8).top_ks(12) == [8, 9, 9, 10, 11, 12, 12, 13, 14, 15, 15, 16]
    assert krause(top_k=3, top_k_growth=1.0).top_ks(2) == [3, 3]
    assert krause(top_k=5).top_ks(1) == [5]
    assert krause().top_ks(2) == [None, None]
    model = vision_transformer(**SMALL, attention=krause(top_k=2))
    assert [a.top_k for a in model.attentions()] == [2, 3, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize(("per", "count"), [("layer", 1), ("head", 2)])
def test_sigma_per_layer_or_head(per: str, count: int) -> None:
    model = vision_transformer(**SMALL, attention=krause(scalars_per=per, scalars={"sigma": 4.5}))
    for layer in model.attentions():
        assert isinstance(layer, KrauseAttention)
        assert layer.scalars["sigma"]().tolist() == pytest.approx([4.5] * count)
        assert layer.learned_scalars()["sigma"].shape == (2,)


def test_drop_path_rises_with_depth() -> None:
    model = vision_transformer(**SMALL, drop_path=0.3)
    assert [b.drop_path.p for b in model.blocks] == pytest.approx([0.0, 0.15, 0.3])  # type: ignore[union-attr]
    swin = swin_transformer(drop_path=0.3)
    shares = [b.drop_path.p for stage in swin.stages for b in stage if hasattr(b, "drop_path")]  # type: ignore[union-attr]
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("mechanism", ["softmax", "krause"])
def test_saved_models_come_back(norm: str, mechanism: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    attention = VisionAttentionConfig(mechanism, radius=1, top_k=2)
    models = [
        vision_transformer(**SMALL, norm=norm, attention=attention).eval(),
        swin_transformer(mechanism=mechanism).eval(),
    ]
    pictures = torch.randn(2, 3, 32, 32)
    for model in models:
        model.save_pretrained(tmp_path / "model")
        again = type(model).from_pretrained(tmp_path / "model").eval()
        assert again.config == model.config
        assert torch.equal(again(pictures), model(pictures))
        assert torch.equal(load_model(tmp_path / "model").eval()(pictures), model(pictures))


def test_presets_build_and_swin_shifts_every_second_block() -> None:
    with torch.device("meta"):
        for name in VISION_PRESETS:
            assert isinstance(vision_transformer(name), VisionTransformer)
        for name in SWIN_PRESETS:
            assert isinstance(swin_transformer(name), SwinTransformer)
    config = SwinTransformerConfig(image_height=16, image_width=32)
    blocks = [b for stage in build_model(config).stages for b in stage]
    shifts = [b.attention.shift for b in blocks if hasattr(b, "attention")]
    assert shifts == [0, 2, 0, 2]
    square = SwinTransformerConfig(image_height=16, image_width=16)
    blocks = [b for stage in build_model(square).stages for b in stage]
    assert [b.attention.shift for b in blocks if hasattr(b, "attention")] == [0, 2, 0, 0]


def test_swin_sees_across_windows_by_its_shift() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    other = x.clone()
    other[..., 0, 0] += 1.0
    seen = []
    for position in ("relative", "none"):
        model = swin_transformer(position=position, mechanism="krause").eval()
        before, after = ([], [])
        for picture, kept in ((x, before), (other, after)):
            h = model.embedding_norm(model.embedding(picture).permute(0, 2, 3, 1))
            for block in model.stages[0]:  # type: ignore[union-attr]
                h = block(h)
                kept.append(h)
        seen.append([int((a != b).any(-1).sum()) for a, b in zip(before, after, strict=True)])
    assert seen == [[16, 36], [16, 36]]


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (VisionTransformerConfig, {"image_height": 30}, "patch must divide model.image_height"),
        (VisionTransformerConfig, {"image_width": 33}, "pad pictures to 32"),
        (VisionTransformerConfig, {"heads": 3}, "heads must divide"),
        (VisionTransformerConfig, {"norm": "mid"}, "model.norm"),
        (VisionTransformerConfig, {"drop_path": 1.0}, "drop_path"),
        (VisionTransformerConfig, {"registers": -1}, "registers"),
        (VisionAttentionConfig, {"metric": "l2"}, "metric"),
        (VisionAttentionConfig, {"scalars_per": "model"}, "scalars_per"),
        (VisionAttentionConfig, {"top_k": 0}, "top_k"),
        (SwinTransformerConfig, {"window": 5}, "windows of 5 do not divide"),
        (SwinTransformerConfig, {"image_height": 31}, "patch must divide"),
        (SwinTransformerConfig, {"depths": (2,)}, "each stage"),
        (SwinTransformerConfig, {"heads": (3, 4)}, "heads of stage 1 must divide its 32"),
    ],
)
def test_what_does_not_divide_is_refused(kind: type, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**options)


@pytest.mark.usefixtures("unchecked")
def test_pictures_of_another_size_and_unknown_presets() -> None:
    for model in (vision_transformer(**SMALL), swin_transformer()):
        with pytest.raises(ValueError, match=r"takes pictures \(batch, 3, 32, 32\)"):
            model(torch.randn(1, 3, 28, 28))
        with pytest.raises(ValueError, match="image_height"):
            model(torch.randn(1, 1, 32, 32))
        with pytest.raises(ValueError, match=r"unsqueeze\(0\)"):
            model(torch.randn(3, 32, 32))
        with pytest.raises(TypeError, match=r"standardized as in training, not torch\.uint8"):
            model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="did you mean 'cifar-s'"):
        vision_transformer("cifar-x")
    with pytest.raises(ValueError, match="no Swin preset"):
        swin_transformer("large")
    with pytest.raises(ValueError, match="no attention mechanism is called 'krausse'"):
        vision_transformer(mechanism="krausse")
    assert replace(vision_transformer("digits").config, layers=1).layers == 1


@pytest.mark.parametrize("mechanism", ["linear", "kuramoto"])
def test_mechanisms_without_scalars_of_a_layer_build(mechanism: str) -> None:
    model = vision_transformer(**SMALL, mechanism=mechanism)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_linear_attention_has_no_neighbours() -> None:
    with pytest.raises(ValueError, match=r"Grid.*has no meaning for it"):
        vision_transformer(**SMALL, attention=VisionAttentionConfig("linear", radius=1))
