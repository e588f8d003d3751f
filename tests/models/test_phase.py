"""The phase language model: sizes, caches on every manifold, identity, precision, on disk."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import resonant
from resonant.functional.documents import document_runs
from resonant.models.architectures import load_model
from resonant.models.language import LanguageModel
from resonant.models.language_configs import AttentionConfig, PositionConfig, preset
from resonant.models.phase import PhaseLanguageModel
from resonant.models.phase_configs import (
    PHASE_POSITIONS,
    PHASE_PRESETS,
    PhaseLanguageModelConfig,
    as_published,
    phase_preset,
    with_oscillators,
)
from resonant.testing import assert_cache, assert_causal, assert_padding
from tests.models.test_cache import LENGTH, OTHERS, TOLERANCE, WINDOW, cases, decode, tokens

MANIFOLDS = ["circle", "sphere-3", "sphere-4", "so-3", "u-2"]


def build(
    manifold: str = "circle",
    *,
    kind: str = "rotary",
    gate: str | None = None,
    window: int | None = None,
    top_k: int | None = None,
    dtype: torch.dtype = torch.float64,
    **fields: Any,
) -> PhaseLanguageModel:
    """A small model whose learned numbers are away from their starts."""
    torch.manual_seed(0)
    energy: Any = {} if gate is None else {"gate": "energy", "standardize": gate}
    config = PhaseLanguageModelConfig(
        vocabulary=32,
        layers=2,
        width=8,
        heads=2,
        hidden=12,
        manifold=manifold,
        position=PositionConfig(kind=kind, locality=3.7),
        attention=AttentionConfig("kuramoto", window, top_k, **energy),
        **fields,
    )
    model = PhaseLanguageModel(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", PHASE_PRESETS)
def test_presets_match_the_transformer_within_a_percent(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = PhaseLanguageModel(phase_preset(name)), LanguageModel(preset(name))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.01
    assert (PHASE_PRESETS[name].__doc__ or "").strip()
    assert phase_preset(name).layers == preset(name).layers


@pytest.mark.parametrize("manifold", MANIFOLDS)
@pytest.mark.parametrize("gate", [None, "prefix", "none"])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("rotary", {}),
        ("morlet-relative", {"top_k": 3}),
        pytest.param(
            "none",
            {"steps": 2, "lag": True, "readout": "tied", "phase_gate": "static"},
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("others", OTHERS)
def test_cached_is_full(
    manifold: str, gate: str | None, kind: str, fields: dict, others: bool
) -> None:
    """Chunks of 5, left pads of 0, 3 and 22, rows reordered half-way, windows shorter than chunks
    of the prompt, in float64 and float32."""
    ids, padding = tokens()
    for dtype, window in cases(others):
        model = build(manifold, kind=kind, gate=gate, window=window, dtype=dtype, **fields)
        worst = decode(model, ids, padding)
        assert worst < TOLERANCE[dtype], f"{dtype}, window {window}: {worst:.2e}"


@pytest.mark.parametrize("manifold", ["circle", "sphere-4", "so-3"])
def test_documents_packed_in_a_row_are_as_if_alone_cached_or_not(manifold: str) -> None:
    ids, _ = tokens()
    documents = torch.tensor([[0] * 8 + [1] * 15, [4] * 15 + [2] * 8, [1, 2] + [1] * 21])
    model = build(manifold, gate="prefix", steps=2)
    assert decode(model, ids, None, documents) < 1e-9
    with torch.no_grad():
        together, runs = model(ids, documents=documents), document_runs(documents)
        for row in range(3):
            for number in runs[row].unique():
                where = runs[row] == number
                alone = model(ids[row][where].unsqueeze(0))[0]
                torch.testing.assert_close(together[row][where], alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("manifold", "fields"),
    [
        pytest.param(
            "circle",
            {"window": 5, "top_k": 3, "gate": "prefix", "steps": 2},
            marks=pytest.mark.slow,
        ),
        ("sphere-4", {}),
    ],
)
def test_it_is_certified(manifold: str, fields: dict) -> None:
    model = build(manifold, dtype=torch.float32, **fields)
    assert_causal(model)
    assert_padding(model)
    assert_cache(model)


def test_without_coupling_and_drive_it_reads_off_the_token() -> None:
    """kappa = 0 and W_2 = 0: logits of a position depend on its own token alone."""
    model = build(phase_gate="static")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("kappa.value"):
                parameter.fill_(float("-inf"))
            elif name.endswith("down_proj.weight"):
                parameter.zero_()
    ids, _ = tokens()
    with torch.no_grad():
        logits = model(ids)
        alone = model(ids.reshape(-1, 1)).reshape(*ids.shape, -1)
    torch.testing.assert_close(logits, alone)


def test_the_tied_read_out_is_its_formula() -> None:
    model = build(readout="tied")
    seen: list[Any] = []
    model.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    ids, _ = tokens()
    with torch.no_grad():
        logits = model(ids)
    theta, angles = seen[0], model.embedding.weight
    cosines = (theta.unsqueeze(2) - angles).cos()  # (batch, token, vocabulary, coordinate)
    torch.testing.assert_close(logits, (cosines * model.scale).sum(-1))


@pytest.mark.parametrize("name", PHASE_PRESETS)
def test_presets_have_oscillators_and_can_be_as_published(name: str) -> None:
    ours = phase_preset(name)
    assert (ours.position.oscillators, ours.embedding_start, ours.gate_start) == (8, "uniform", 0.5)
    plain = PhaseLanguageModelConfig()
    published = as_published(ours)
    assert with_oscillators(published) == ours
    for field in ("position", "embedding_start", "gate_start"):
        assert getattr(published, field) == getattr(plain, field)


def test_starts_near_a_uniform_guess() -> None:
    torch.manual_seed(0)
    for manifold, readout in itertools.product(("circle", "sphere-4"), ("untied", "tied")):
        options = {"manifold": manifold, "readout": readout, "embedding_start": "normal"}
        model = resonant.phase_language_model("0.11M", **options)
        logits = model(torch.randint(0, 256, (4, 64)))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(0, 256, (256,)))
        assert abs(loss.item() - 5.545) < 1.0


@pytest.mark.parametrize("manifold", ["circle", "sphere-4", "so-3", "u-2"])
@pytest.mark.parametrize("readout", ["untied", "tied"])
def test_a_model_of_low_precision_keeps_its_phases(manifold: str, readout: str) -> None:
    model = build(manifold, dtype=torch.float32, readout=readout, lag=True, gate="prefix")
    ids, _ = tokens()
    with torch.no_grad():
        reference = model(ids)
        seen: list[Any] = []
        before = model.embedding.weight.clone()
        low = model.to(torch.bfloat16)
        for block in low.blocks:
            block.register_forward_hook(lambda _, __, out: seen.append(out))
        logits = low(ids)
    assert {x.dtype for x in seen} == {torch.float32}
    assert torch.equal(low.embedding.weight, before)
    assert logits.dtype == torch.bfloat16
    apart = (logits.float() - reference).square().mean().sqrt() / reference.std()
    assert apart < 0.05
    model = build(manifold, dtype=torch.float32, readout=readout, lag=True, gate="prefix")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = model(ids)
    apart = (autocast.float() - reference).square().mean().sqrt() / reference.std()
    assert apart < 0.05


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = build("sphere-4", dtype=torch.float32, window=5, gate="prefix")
    model.save_pretrained(tmp_path)
    ids, _ = tokens()
    for loaded in (PhaseLanguageModel.from_pretrained(tmp_path), load_model(tmp_path)):
        assert isinstance(loaded, PhaseLanguageModel)
        assert loaded.config == model.config
        assert torch.equal(loaded.eval()(ids), model(ids))
    with pytest.raises(ValueError, match=r"architecture 'phase', not 'transformer' .*load_model"):
        LanguageModel.from_pretrained(tmp_path)


def test_it_generates() -> None:
    model = build(dtype=torch.float32, window=WINDOW, steps=2)
    ids, padding = tokens()
    greedy = resonant.generate(model, ids, 6, temperature=0.0, key_padding_mask=padding)
    assert greedy.shape == (3, LENGTH + 6)
    for step in range(6):  # as the full pass would choose
        mask = F.pad(padding, (0, step))
        with torch.no_grad():
            logits = model(greedy[:, : LENGTH + step], key_padding_mask=mask)[:, -1]
        assert torch.equal(logits.argmax(-1), greedy[:, LENGTH + step])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"heads": 3}, r"model\.heads must divide model\.width, but they are 3 and 64"),
        ({"manifold": "torus"}, r"model\.manifold is circle, sphere-N, so-N or u-N"),
        ({"manifold": "sphere-1"}, r"model\.manifold is circle, sphere-N, so-N or u-N"),
        (
            {"attention": AttentionConfig("kuramoto", scalars={"sigma": 1.0})},
            r"a name in model\.attention\.scalars is one of beta, kappa",
        ),
        ({"readout": "both"}, r"model\.readout is one of untied, tied"),
        ({"phase_gate": "x"}, r"model\.phase_gate is one of content, static"),
        ({"steps": 0}, r"model\.steps must be at least 1"),
        ({"attention": AttentionConfig()}, r"model\.attention\.mechanism is one of kuramoto"),
        ({"position": PositionConfig(kind="learned")}, r"model\.position\.kind is one of rotary"),
        (
            {"position": PositionConfig(convention="interleaved")},
            r"model\.position\.convention is one of half",
        ),
    ],
)
def test_wrong_values_are_refused(fields: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        resonant.phase_language_model("0.11M", **fields)


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match=r"no phase preset is called '0\.12M'; did you mean"):
        resonant.phase_language_model("0.12M")
    with pytest.raises(TypeError, match="layer"):
        resonant.phase_language_model("0.11M", layer=3)
    assert set(PHASE_POSITIONS) == {"rotary", "morlet-relative", "none"}


def test_where_angles_and_gates_start() -> None:
    usual: Any = PhaseLanguageModel(PhaseLanguageModelConfig(vocabulary=500))
    assert 0.45 < usual.embedding.weight.std() < 0.55
    config = PhaseLanguageModelConfig(vocabulary=500, embedding_start="uniform", gate_start=0.5)
    around: Any = PhaseLanguageModel(config)
    assert around.embedding.weight.abs().max() <= math.pi
    assert around.embedding.weight.cos().mean().abs() < 0.02
    for model, start in ((usual, 2.0), (around, 0.5)):
        assert all(block.attention.gate_proj.bias.eq(start).all() for block in model.blocks)
    static: Any = PhaseLanguageModel(dataclasses.replace(config, phase_gate="static"))
    assert static.blocks[0].attention.metric().allclose(torch.tensor(0.5))
    alone = AttentionConfig("kuramoto", window=1)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"embedding_start": "wide"}, "embedding_start"),
        ({"embedding_start": "uniform", "manifold": "sphere-4"}, "embedding_start = normal"),
        ({"kernel": -1}, "kernel must be at least 0"),
        ({"kernel": 1, "manifold": "sphere-4"}, "kernel is of angles"),
        ({"kernel": 1, "successors": True}, "leave out model.successors"),
        ({"score_block": "next", "heads": 1}, "take model.heads >= 2"),
        ({"self_score": "threshold", "attention": alone}, r"model\.attention\.window = 1"),
        ({"gate_start": 0.0}, "gate_start must be above 0"),
    ]
    for changes, says in refused:
        with pytest.raises(ValueError, match=says):
            PhaseLanguageModelConfig(**changes)
