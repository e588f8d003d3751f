"""What stands in the place of an nn.MultiheadAttention is called as that was, or refused whole."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor, nn

from resonant import swap, unswap
from resonant.functional import Band, Causal, Full
from resonant.functional.attend import record_paths
from resonant.nn import KrauseAttention
from resonant.nn.block import CrossBlock

X = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MEMORY = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
PADDING = torch.zeros(2, 9, dtype=torch.bool)
PADDING[0, 6:] = True
CAUSAL = torch.ones(9, 9, dtype=torch.bool).triu(1)


class Own(nn.Module):
    """A user's module with an attention of torch."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 2, dtype=torch.float64, **options)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, *inputs: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        return self.attn(*inputs, **options)


def laid_out(x: Tensor, *, batch_first: bool, batched: bool) -> Tensor:
    if not batched:
        return x[0]
    return x if batch_first else x.transpose(0, 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("crossing", [False, True])
def test_softmax_is_called_as_torch_s_is(batch_first: bool, batched: bool, crossing: bool) -> None:
    torch.manual_seed(0)
    ours, options = Own(batch_first=batch_first).eval(), {}
    theirs = copy.deepcopy(ours)
    swap(ours, "softmax")
    query = laid_out(X, batch_first=batch_first, batched=batched)
    key = laid_out(MEMORY, batch_first=batch_first, batched=batched) if crossing else query
    padding = None
    if not crossing:
        padding = PADDING if batched else PADDING[0]
    masks = [None] if crossing else [None, CAUSAL, CAUSAL.expand(4 if batched else 2, 9, 9)]
    for mask, need, average in itertools.product(masks, (None, True, False), (None, True, False)):
        options: dict[str, Any] = {"key_padding_mask": padding, "attn_mask": mask}
        options |= {} if need is None else {"need_weights": need}
        options |= {} if average is None else {"average_attn_weights": average}
        output, weights = ours(query, key, key, **options)
        expected, expected_weights = theirs(query, key, key, **options)
        torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-9)
        assert (weights is None) == (expected_weights is None)
        if weights is not None:
            torch.testing.assert_close(
                weights.double(), expected_weights.double(), atol=1e-6, rtol=1e-6
            )
    by_position = ours(query, key, key, padding, False, masks[-1])
    torch.testing.assert_close(
        by_position[0], theirs(query, key, key, padding, False, masks[-1])[0], atol=1e-12, rtol=1e-9
    )


@pytest.mark.parametrize("mechanism", ["krause", "softmax-sink", "kuramoto", "linear"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_every_mechanism_gives_weights_unless_told_not_to(
    mechanism: str, batch_first: bool
) -> None:
    torch.manual_seed(0)
    model = Own(batch_first=batch_first).eval()
    swap(model, mechanism)
    query = laid_out(X, batch_first=batch_first, batched=True)
    output, weights = model(query, query, query)
    assert output.shape == query.shape
    assert weights.shape == (2, 9, 9)
    assert model(query, query, query, average_attn_weights=False)[1].shape == (2, 2, 9, 9)
    assert model(query, query, query, need_weights=False)[1] is None
    with pytest.raises(TypeError, match="needs_weights"):
        model(query, query, query, needs_weights=False)
    assert unswap(model) == ["attn"]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_of_torch_stays_what_it_was(batch_first: bool) -> None:
    """Encoder and decoder as torch builds them by default, sequence first."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 16,
        "nhead": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
    }
    if not batch_first:  # torch regrets its own default
        warnings.filterwarnings("ignore", "enable_nested_tensor is True")
    model = nn.Transformer(**sizes, dim_feedforward=32, dropout=0.0, batch_first=batch_first)
    model = model.double().train()
    source, target = (laid_out(x, batch_first=batch_first, batched=True) for x in (MEMORY, X))
    options = {"tgt_mask": CAUSAL, "tgt_is_causal": True, "tgt_key_padding_mask": PADDING}
    before = model(source, target, **options)
    names = swap(model, "softmax")
    assert len(names) == 6
    with record_paths() as paths:
        after = model(source, target, **options)
    real = laid_out((~PADDING).unsqueeze(-1), batch_first=batch_first, batched=True).squeeze(-1)
    torch.testing.assert_close(after[real], before[real], atol=1e-11, rtol=1e-9)
    assert set(paths) == {"fused"}  # torch's own layers ask for no weights


def seen_sources(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """How many source tokens each target depends on."""
    memory = source.clone().requires_grad_()
    output = model.decoder(target, memory)  # type: ignore[operator]
    total = torch.zeros(source.shape[1])
    for token in range(target.shape[1]):
        (gradient,) = torch.autograd.grad(output[0, token].sum(), memory, retain_graph=True)
        total = torch.maximum(total, (gradient[0].abs().amax(-1) > 0).float().cpu())
    return total.sum()


@pytest.mark.parametrize("mechanism", ["krause", "softmax", "kuramoto"])
@pytest.mark.parametrize("neighborhood", [Causal(8), Band(2), Causal()])
def test_a_neighborhood_is_for_self_attention(mechanism: str, neighborhood: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 16,
        "nhead": 2,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
    }
    model = nn.Transformer(**sizes, dim_feedforward=32, dropout=0.0, batch_first=True).double()
    swap(model.eval(), mechanism, neighborhood=neighborhood)
    assert seen_sources(model, MEMORY, X[:, :5]) == 30
    encoder: Any = model.encoder.layers[0].self_attn.attention  # type: ignore[union-attr]
    inner = getattr(encoder, "coupling", encoder)
    assert inner.neighborhood == neighborhood
    if isinstance(neighborhood, Causal):
        changed = X.clone()
        changed[:, 5:] += 1.0
        before, after = (model.encoder(x)[:, :5] for x in (X, changed))
        assert torch.equal(before, after)


def test_in_a_module_of_one_s_own_cross_attention_is_told_by_its_key() -> None:
    torch.manual_seed(0)
    model = Own(batch_first=True)
    swap(model, "softmax", neighborhood=Causal(3))
    _, weights = model(X, X, X)
    assert int((weights[0, -1] > 0).sum()) == 3
    _, weights = model(X, MEMORY, MEMORY)
    assert int((weights[0, -1] > 0).sum()) == 30
    with pytest.raises(ValueError, match="two tensors of 9 tokens, which may be either"):
        model(X, X.clone(), X)
    swap(model, "krause")  # again: both stay
    assert int((model(X, X, X)[1][0, -1] > 0).sum()) == 3
    assert int((model(X, MEMORY, MEMORY)[1][0, -1] > 0).sum()) == 30


def test_cross_attention_of_our_models_keeps_its_own() -> None:
    block = CrossBlock(KrauseAttention(16, 2), KrauseAttention(16, 2), 32).double()
    holder = nn.ModuleDict({"block": block})
    swap(holder, "krause", neighborhood=Causal(4))
    assert block.attention.neighborhood == Causal(4)  # type: ignore[union-attr]
    assert block.cross.neighborhood == Full()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="is for self-attention, but the layers chosen are cross"):
        swap(holder, "krause", layers="block.cross", neighborhood=Causal(4))


def adapted(model: nn.Module, *targets: str) -> Any:
    """With LoRA whose updates are not zero."""
    config = peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


def ours() -> nn.Module:
    return nn.ModuleDict({"attn": KrauseAttention(16, 2).double()})


def vit() -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(**sizes, intermediate_size=32, image_size=8, patch_size=4)
    return transformers.ViTModel(config, add_pooling_layer=False)


@pytest.mark.parametrize(
    ("make", "target"), [(ours, "q_proj"), (ours, "out_proj"), (vit, "v_proj"), (Own, "attn")]
)
def test_adapters_are_refused_and_left_alone(make: Any, target: str) -> None:
    model = adapted(make(), target)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    modules = [type(m).__name__ for m in model.modules()]
    with pytest.raises(ValueError, match=r"is peft's .*merge adapters into the model first"):
        swap(model, "softmax")
    assert [type(m).__name__ for m in model.modules()] == modules
    assert before.keys() == model.state_dict().keys()
    merged = model.merge_and_unload()
    assert len(swap(merged, "softmax")) == 1  # then what was learned is in the weights


def test_adapters_elsewhere_are_no_matter() -> None:
    model = adapted(
        nn.ModuleDict({"attn": KrauseAttention(16, 2), "head": nn.Linear(4, 4)}), "head"
    )
    assert swap(model, "softmax") == ["base_model.model.attn"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
def test_quantized_layers_are_refused() -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.ModuleDict({"a": KrauseAttention(16, 2)}))
    with pytest.raises(ValueError, match="before quantizing"):
        swap(model, "softmax")


def test_a_swap_that_fails_half_way_leaves_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3, enable_nested_tensor=False
    )
    modules, calls = list(model.modules()), []
    put = nn.Module.set_submodule

    def fails(self: nn.Module, name: str, module: nn.Module, *more: Any) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise RuntimeError("no room")
        put(self, name, module, *more)

    monkeypatch.setattr(nn.Module, "set_submodule", fails)
    with pytest.raises(RuntimeError, match="no room"):
        swap(model, "krause")
    assert [id(m) for m in model.modules()] == [id(m) for m in modules]


def test_a_misspelt_mechanism_is_named_whatever_else_is_wrong() -> None:
    model = nn.ModuleDict({"a": nn.MultiheadAttention(16, 2)})
    swap(model, "kuramoto")
    for wrong in (model, nn.Linear(2, 2), adapted(ours(), "q_proj")):
        with pytest.raises(ValueError, match=r"krauze.*krause"):
            swap(wrong, "krauze")


def test_what_is_returned_says_that_the_optimizer_comes_after() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32)
    before = {id(p) for p in model.parameters()}
    swapped = swap(model, "krause")
    new = sum(p.numel() for p in model.parameters() if id(p) not in before)
    assert swapped == ["self_attn"]
    assert swapped.new_parameters == new == 4 * 16 * 17 + 2
    assert "make the optimizer after this" in repr(swapped)
    assert f"{new:,} numbers" in repr(swapped)
