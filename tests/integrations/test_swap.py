"""Surgery: the same numbers with softmax, the old module back bit by bit, clear refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import resonant
from resonant import swap, unswap
from resonant.functional import Causal
from resonant.models.language_configs import AttentionConfig
from resonant.nn import KrauseAttention, PhaseAdapter, SoftmaxAttention

# PyTorch warns of the nested tensors that its own encoder makes of padded rows.
NESTED = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def encoder(**options: Any) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **options)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    for parameter in model.parameters():  # biases start at zero: copy what can be seen
        nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


X = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PADDING = torch.zeros(2, 9, dtype=torch.bool)
PADDING[0, 6:] = True
MASK = torch.ones(9, 9, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_softmax_changes_nothing_but_rounding(bias: bool, training: bool) -> None:
    model = encoder(bias=bias, dropout=0.0).train(training)
    options = {"mask": MASK, "src_key_padding_mask": PADDING}
    before = model(X, **options)
    assert swap(model, "softmax") == [f"layers.{i}.self_attn" for i in range(3)]
    attentions = (model.get_submodule(f"layers.{i}.self_attn.attention") for i in range(3))
    assert all(isinstance(each, SoftmaxAttention) for each in attentions)
    assert (model(X, **options) - before)[~PADDING].abs().max() < 1e-12


@NESTED
@pytest.mark.parametrize("mechanism", ["softmax", "krause", "kuramoto"])
@pytest.mark.parametrize("layers", [None, [0], [-1]])
def test_an_encoder_as_torch_builds_it_takes_padding(mechanism: str, layers: Any) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 3).eval()
    x, real = X.float(), ~PADDING
    with torch.no_grad():
        before = model(x, src_key_padding_mask=PADDING)
        swap(model, mechanism, layers=layers)
        after = model(x, src_key_padding_mask=PADDING)
        if mechanism == "softmax":
            assert (after - before)[real].abs().max() < 1e-5
        loud = x.masked_fill(PADDING.unsqueeze(-1), 9.0)
        assert model(loud, src_key_padding_mask=PADDING)[real].equal(after[real])
        unswap(model)
        assert model.use_nested_tensor
        assert model(x, src_key_padding_mask=PADDING)[real].equal(before[real])


@NESTED
@pytest.mark.usefixtures("unchecked")  # what it is about looks at no shapes
def test_a_module_set_by_hand_takes_padding_too() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    for each in model.layers:
        each.self_attn = KrauseAttention(16, 2)
    with torch.no_grad():
        assert model(X.float(), src_key_padding_mask=PADDING).isfinite().all()
        model.layers[0] = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
        with pytest.raises(ValueError, match=r"enable_nested_tensor=False, or use resonant\.swap"):
            model(X.float(), src_key_padding_mask=PADDING)


def test_what_was_swapped_comes_back_bit_by_bit() -> None:
    model = encoder()
    before, keys = model(X), list(model.state_dict())
    for mechanism in ("krause", "kuramoto"):
        swap(model, mechanism)
        assert (model(X) - before).abs().max() > 1e-3
        model(X).sum().backward()
        assert unswap(model) == [f"layers.{i}.self_attn" for i in range(3)]
        assert model(X).equal(before)
        assert list(model.state_dict()) == keys
    swap(model, "krause", layers=[0])
    swap(model, "softmax", layers=[0])
    unswap(model)
    assert isinstance(model.get_submodule("layers.0.self_attn.attention"), KrauseAttention)
    unswap(model)
    assert model(X).equal(before)


def test_the_old_module_is_no_part_of_the_new_one() -> None:
    model = encoder()
    count = sum(p.numel() for p in model.parameters())
    swap(model, "softmax")
    assert sum(p.numel() for p in model.parameters()) == count
    swap(model.float(), "krause")
    unswap(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_layers_are_chosen_by_number_or_name() -> None:
    model = encoder()
    assert swap(model, "krause", layers=[0, -1]) == ["layers.0.self_attn", "layers.2.self_attn"]
    unswap(model)
    assert swap(model, "krause", layers="layers.[12].*") == [
        "layers.1.self_attn",
        "layers.2.self_attn",
    ]
    unswap(model)
    with pytest.raises(ValueError, match="there is no layer 3: the model has 3"):
        swap(model, "krause", layers=[3])
    with pytest.raises(ValueError, match=r"no attention is called 'layer.0'; .*layers.0.self_attn"):
        swap(model, "krause", layers=["layer.0"])


def test_options_go_to_the_new_module() -> None:
    model = encoder()
    swap(model, "krause", sigma=3.0, neighborhood=Causal(window=4), top_k=2)
    module = model.get_submodule("layers.0.self_attn.attention")
    assert isinstance(module, KrauseAttention)
    assert module.neighborhood == Causal(window=4)
    assert module.top_k == 2
    assert (module.scalars["sigma"]() - 3.0).abs().max() < 1e-6
    changed = X.clone()
    changed[:, 5:] += 1.0
    assert model(X)[:, :5].equal(model(changed)[:, :5])


def test_krause_starts_as_softmax_without_the_norms() -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True).double()
    holder = nn.ModuleDict({"attention": theirs})
    swap(holder, "krause")
    ours = holder["attention"].attention
    assert isinstance(ours, KrauseAttention)
    _, weights = ours.eval()(X, need_weights=True)
    query, key = (p(X).unflatten(-1, (2, 8)).transpose(1, 2) for p in (ours.q_proj, ours.k_proj))
    logits = query @ key.mT / 8**0.5 - key.square().sum(-1).unsqueeze(-2) / (2 * 8**0.5)
    assert (weights - logits.softmax(-1)).abs().max() < 1e-7  # sigma starts in float32


def test_other_widths_and_cross_attention() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, dropout=0.0).double()
    layer.multihead_attn = nn.MultiheadAttention(
        16, 2, kdim=6, vdim=6, batch_first=True, dtype=torch.float64
    )
    memory = torch.randn(2, 5, 6, dtype=torch.float64)
    before = layer(X, memory)
    assert swap(layer, "softmax") == ["self_attn", "multihead_attn"]
    assert (layer(X, memory) - before).abs().max() < 1e-12


def test_models_of_ours_keep_what_they_have() -> None:
    torch.manual_seed(0)
    chosen = AttentionConfig(window=7, gate="energy")
    model = resonant.language_model("0.11M", attention=chosen).eval()
    tokens = torch.randint(0, 256, (2, 20))
    before = model(tokens)
    swap(model, "softmax")
    assert model(tokens).equal(before)
    swap(model, "krause")
    module = model.blocks[0].attention
    assert isinstance(module, KrauseAttention)
    assert module.neighborhood == Causal(window=7)
    assert module.gate is not None
    assert module.position is not None
    resonant.testing.assert_cache(model)
    swap(unswapped(model), "kuramoto")
    assert isinstance(model.blocks[0].attention, PhaseAdapter)
    resonant.testing.assert_causal(model)


def unswapped(model: Any) -> Any:
    while True:
        try:
            unswap(model)
        except ValueError:
            return model


def test_a_module_in_two_places_is_one_module_still() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = self.b = nn.MultiheadAttention(16, 2, batch_first=True)

    model = Shared()
    assert swap(model, "krause") == ["a"]
    assert isinstance(model.a.attention, KrauseAttention)  # type: ignore[union-attr]
    assert model.a is model.b
    unswap(model)
    assert model.a is model.b
    assert isinstance(model.b, nn.MultiheadAttention)


def test_scalars_stay_where_the_mechanism_does() -> None:
    model = nn.ModuleDict({"a": KrauseAttention(16, 2, sigma=5.0)})
    swap(model, "krause", top_k=3)
    module: Any = model["a"]
    assert (module.scalars["sigma"]() - 5.0).abs().max() < 1e-5
    swap(model, "krause", sigma=2.0)
    assert (model["a"].scalars["sigma"]() - 2.0).abs().max() < 1e-5  # type: ignore[operator, index]


def test_a_swapped_model_is_not_saved_under_its_old_configuration(tmp_path: Path) -> None:
    model = resonant.language_model("0.11M")
    swap(model, "krause")
    with pytest.raises(ValueError, match="was swapped, which the configuration does not say"):
        model.save_pretrained(tmp_path)
    unswap(model)
    model.save_pretrained(tmp_path)


def test_frozen_projections_stay_frozen() -> None:
    model = encoder()
    model.requires_grad_(False)
    swap(model, "krause")
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {f"layers.{i}.self_attn.attention.scalars.sigma.value" for i in range(3)}
    unswap(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    swap(model, "softmax")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, _ in model.named_parameters() if n.endswith("bias")
    }


@pytest.mark.usefixtures("unchecked")
def test_a_gate_is_a_module() -> None:
    model = encoder()
    with pytest.raises(TypeError, match="gate is a module, such as"):
        swap(model, "krause", gate="energy")
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


def test_what_cannot_be_swapped_is_refused_and_left_alone() -> None:
    with pytest.raises(ValueError, match=r"holds no nn\.MultiheadAttention"):
        swap(nn.Linear(2, 2), "krause")
    with pytest.raises(ValueError, match="nothing in this model was swapped"):
        unswap(encoder())
    extra = nn.ModuleDict({"a": nn.MultiheadAttention(16, 2, batch_first=True, add_bias_kv=True)})
    with pytest.raises(ValueError, match="no counterpart"):
        swap(extra, "krause")
    with pytest.raises(ValueError, match="is itself an attention module"):
        swap(nn.MultiheadAttention(16, 2, batch_first=True), "krause")
    with pytest.raises(ValueError, match="clocks have no queries and keys"):
        swap(encoder(), "clock")
    model = encoder()
    before = model(X)
    with pytest.raises(ValueError, match="krause"):
        swap(model, "krauss")
    with pytest.raises(TypeError, match="sigmma"):
        swap(model, "krause", sigmma=2.0)
    assert model(X).equal(before)
    swap(model, "kuramoto", layers=[0])
    with pytest.raises(ValueError, match="unswap it first"):
        swap(model, "krause")


def test_scalars_of_a_layer_and_of_its_heads() -> None:
    layer = KrauseAttention(16, 2, sigma=3.0, scalars_per="layer")
    model = torch.nn.ModuleDict({"one": layer})
    torch.nn.init.constant_(layer.get_parameter("scalars.sigma.value"), 1.5)

    def learned() -> list[float]:
        return model["one"].get_parameter("scalars.sigma.value").tolist()

    swap(model, "krause")
    assert learned() == [1.5]
    swap(model, "krause", scalars_per="head")
    assert learned() == [1.5, 1.5]
    model["one"].get_parameter("scalars.sigma.value").data[1] = 2.5
    swap(model, "krause", scalars_per="layer")
    assert learned() == [2.0]


def test_linear_attention_takes_projections_and_gives_them_back() -> None:
    model = encoder(dropout=0.0)
    before = model(X)
    swap(model, "linear")
    assert not torch.allclose(model(X), before)
    swap(model, "softmax")
    torch.testing.assert_close(model(X), before)


def test_windows_are_not_taken_apart() -> None:
    with pytest.raises(ValueError, match=r"windows by nn\.WindowAttention"):
        swap(resonant.swin_transformer(), "krause")
