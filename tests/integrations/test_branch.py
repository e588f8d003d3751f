"""The branch in Llama, Qwen2 and Qwen3: starts, caches, causality, what is refused."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from resonant.functional.attend import record_paths
from resonant.integrations import (
    add_krause_branch,
    branches,
    register_attention,
    remove_krause_branch,
)
from resonant.integrations.branch import AttentionBranch, blend

from .tiny import FAMILIES, VARIANTS, WINDOW, awake, decoded, left_padding, tiny, tokens

MECHANISMS = ("krause", "softmax")


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


def branched(variant: str, mechanism: str = "krause", start: str = "identity") -> Any:
    model = tiny(variant)
    add_krause_branch(model, window=WINDOW, top_k=4, start=start, mechanism=mechanism)
    awake(model)
    return model


def direct(branch: AttentionBranch, host: Any, hidden: Tensor, turn: Any) -> Tensor:
    """The branch written out in float64: distances, window, top-k, softmax, one query at a time."""
    config: Any = branch.config
    double = hidden.double()
    branch = copy.deepcopy(branch).double()
    heads, key_heads = branch.num_heads, branch.num_heads // host.num_key_value_groups

    def split(x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x.unflatten(-1, (-1, branch.head_dim))).transpose(1, 2)

    def rotate(x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        swapped = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * turn[0].double()[:, None] + swapped * turn[1].double()[:, None]

    query = rotate(split(branch.q_proj(double), branch.q_norm))
    key = rotate(split(branch.k_proj(double), branch.k_norm))
    value = split(branch.v_proj(double), nn.Identity())
    rows = []
    window = min(config.window, getattr(host, "sliding_window", None) or config.window)
    for i in range(hidden.shape[1]):
        seen = range(max(0, i - window + 1), i + 1)
        outputs = []
        for head in range(heads):
            ours = head // (heads // key_heads)
            near = key[:, ours, seen.start : seen.stop]
            one = query[:, head, i : i + 1]
            if config.mechanism == "krause":
                sigma = branch.sigma.value[head].exp()
                logits = -(one - near).square().sum(-1) / (2 * sigma**2)
            else:
                logits = (one * near).sum(-1) / math.sqrt(branch.head_dim)
            kept = logits >= logits.topk(min(config.top_k, len(seen))).values[:, -1:]
            weights = logits.masked_fill(~kept, -math.inf).softmax(-1)
            outputs.append(
                torch.einsum("bk,bkd->bd", weights, value[:, ours, seen.start : seen.stop])
            )
        rows.append(torch.stack(outputs, 1).flatten(1))
    return branch.o_proj(torch.stack(rows, 1))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_branch_is_its_equations(variant: str, mechanism: str) -> None:
    model, ids = branched(variant, mechanism), tokens()
    host = model.model.layers[1].self_attn
    hidden = torch.randn(3, 23, 32)
    turn = model.model.rotary_emb(hidden, torch.arange(23).unsqueeze(0))
    branch = host.krause_branch
    with torch.no_grad(), record_paths() as paths:
        ours = branch.attended(hidden, turn, None)
    assert paths == ["banded"]
    torch.testing.assert_close(
        ours.double(), direct(branch, host, hidden, turn), atol=2e-5, rtol=1e-4
    )
    assert model(ids).logits.isfinite().all()


def test_identity_starts_bit_for_bit_and_leaves_bit_for_bit(variant: str) -> None:
    model, ids, mask = tiny(variant), tokens(), left_padding()
    plain, padded = model(ids).logits, model(ids, attention_mask=mask).logits
    names = add_krause_branch(model, window=WINDOW, top_k=4)
    assert names == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert torch.equal(model(ids).logits, plain)
    assert torch.equal(model(ids, attention_mask=mask).logits, padded)
    twin = copy.deepcopy(model)
    awake(model)
    assert not torch.allclose(model(ids).logits, plain, atol=1e-2)
    assert torch.equal(twin(ids).logits, plain)  # a copy has hooks and weights of its own
    assert remove_krause_branch(model) == names
    assert torch.equal(model(ids).logits, plain)
    assert not any("krause" in name for name in model.state_dict())
    assert len(branches(twin)) == 2
    remove_krause_branch(twin)
    assert torch.equal(twin(ids).logits, plain)


def test_mix_starts_with_its_share() -> None:
    model = tiny("llama")
    add_krause_branch(model, start="mix")
    branch = branches(model)["model.layers.0.self_attn"]
    with torch.no_grad():
        branch.mixing.weight.zero_()
        mixed = branch(torch.ones(1, 1, 32), torch.zeros(1, 1, 32))
    torch.testing.assert_close(mixed, torch.full((1, 1, 32), 0.8))  # 4 : 1
    assert not hasattr(branch, "gamma")


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_are_copies_with_biases_only_where_the_model_has_them(family: str) -> None:
    model = tiny(family)
    add_krause_branch(model)
    for name, branch in branches(model).items():
        host = model.get_submodule(name)
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            ours, theirs = getattr(branch, part), getattr(host, part)
            assert torch.equal(ours.weight, theirs.weight)
            assert ours.weight is not theirs.weight
            assert (ours.bias is None) == (theirs.bias is None)
        assert isinstance(branch.q_norm, nn.Identity) == (family != "qwen3")
    biased = {n for n, _ in model.named_parameters() if "krause_branch" in n and "proj.bias" in n}
    assert bool(biased) == (family == "qwen2")
    assert not any("o_proj" in name for name in biased)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "left-padded"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager", "resonant"])
def test_decoding_is_the_full_pass(
    variant: str, static: bool, padded: bool, implementation: str
) -> None:
    model, ids = branched(variant), tokens()
    if implementation == "resonant":
        register_attention()
    model.set_attn_implementation(implementation)
    mask = left_padding() if padded else None
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    with torch.no_grad():
        full = model(ids, attention_mask=mask).logits
    made = decoded(model, ids, mask, static=static)
    torch.testing.assert_close(made[real], full[real], atol=2e-5, rtol=1e-4)


def test_rows_alone_are_rows_padded(variant: str) -> None:
    model, ids, mask = branched(variant), tokens(), left_padding()
    with torch.no_grad():
        batch = model(ids, attention_mask=mask).logits
        right = model(ids, attention_mask=mask.flip(1)).logits
        for row, skip in ((0, 5), (1, 9), (2, 0)):
            # Positions count from the first column, as transformers has them without position_ids.
            place = torch.arange(skip, 23).unsqueeze(0)
            alone = model(ids[row : row + 1, skip:], position_ids=place).logits[0]
            torch.testing.assert_close(batch[row, skip:], alone, atol=2e-5, rtol=1e-4)
            alone = model(ids[row : row + 1, : 23 - skip]).logits[0]
            torch.testing.assert_close(right[row, : 23 - skip], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("cut", [4, 11])
def test_the_future_changes_nothing(variant: str, mechanism: str, cut: int) -> None:
    model, ids, mask = branched(variant, mechanism), tokens(), left_padding()
    other = ids.clone()
    other[:, cut:] = tokens(seed=5)[:, cut:]
    register_attention()
    for implementation in ("sdpa", "eager", "resonant"):
        model.set_attn_implementation(implementation)
        for seen in (None, mask):
            for cache in ("none", "dynamic", "static"):
                # What transformers makes of padding itself may be anything.
                real = torch.ones(3, cut) if seen is None else seen[:, :cut]
                ours, theirs = (
                    read(model, x, seen, cache)[:, :cut][real.bool()] for x in (ids, other)
                )
                assert torch.equal(ours, theirs), (implementation, cache)


@torch.no_grad()
def read(model: Any, ids: Tensor, mask: Tensor | None, cache: str) -> Tensor:
    """Logits of a prompt and of a chunk after it, with the cache of that name."""
    if cache == "none":
        return model(ids, attention_mask=mask, use_cache=False).logits
    past: Any = transformers.DynamicCache(config=model.config)
    if cache == "static":
        past = transformers.StaticCache(model.config, max_cache_len=40)
    parts = [
        model(
            ids[:, start:stop],
            attention_mask=None if mask is None else mask[:, :stop],
            past_key_values=past,
            use_cache=True,
        ).logits
        for start, stop in ((0, 9), (9, ids.shape[1]))
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate_with_beams_is_generate_without_a_cache(variant: str, cache: str) -> None:
    model, ids, mask = branched(variant), tokens(length=9), left_padding(length=9)
    mask[1, :9], mask[1, 6:] = 0, 1
    options: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    options |= {"num_beams": 3, "pad_token_id": 0, "eos_token_id": None}
    slow = model.generate(ids, **options, use_cache=False)
    fast = model.generate(ids, **options, cache_implementation=cache)
    assert torch.equal(slow, fast)


def test_packed_documents_do_not_see_each_other(variant: str) -> None:
    model = branched(variant)
    ids, place = tokens(1, 20), torch.cat([torch.arange(8), torch.arange(12)]).unsqueeze(0)
    with torch.no_grad():
        packed = model(ids, position_ids=place, use_cache=False).logits
        alone = model(ids[:, 8:], use_cache=False).logits
    torch.testing.assert_close(packed[:, 8:], alone, atol=2e-5, rtol=1e-4)


def test_a_mask_of_the_callers_own_counts() -> None:
    model, ids = branched("llama"), tokens(1, 10)
    mask = torch.ones(10, 10).tril().bool()
    mask[3:, 2] = False  # nobody after it sees token 2
    other = ids.clone()
    other[0, 2] = (ids[0, 2] + 1) % 64
    with torch.no_grad():
        ours = model(ids, attention_mask=mask[None, None]).logits
        theirs = model(other, attention_mask=mask[None, None]).logits
    assert torch.equal(ours[:, 3:], theirs[:, 3:])


def test_training_with_caches_left_on_is_training_without() -> None:
    model, ids = branched("qwen3").train(), tokens()
    gradients = []
    for use_cache in (True, False):
        model.zero_grad()
        model(ids, labels=ids, use_cache=use_cache).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert len(gradients[0]) == len(list(model.parameters()))


def test_activation_checkpointing_changes_nothing() -> None:
    model, ids = branched("llama").train(), tokens()
    plain = torch.autograd.grad(model(ids, labels=ids).loss, list(model.parameters()))
    model.activation_checkpointing_enable({"use_reentrant": False})
    again = torch.autograd.grad(model(ids, labels=ids).loss, list(model.parameters()))
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)


def test_bfloat16_stays_near_float32(variant: str) -> None:
    model, ids = tiny(variant), tokens()
    add_krause_branch(model, window=WINDOW, top_k=None)  # rounding changes who is kept
    awake(model)
    with torch.no_grad():
        wide = model(ids).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(ids).logits.float()
        remove_krause_branch(model)
        alone = model(ids).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            alone_mixed = model(ids).logits.float()
    error, usual = (mixed - wide).std() / wide.std(), (alone_mixed - alone).std() / alone.std()
    assert error < 3 * usual + 0.01
    narrow = branched(variant).to(torch.bfloat16)
    assert narrow(ids).logits.isfinite().all()


def test_the_window_is_all_that_a_cache_keeps(variant: str) -> None:
    model, ids = branched(variant), tokens(1, 200)
    sizes = []
    cache = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        for start in range(0, 200, 10):
            model(ids[:, start : start + 10], past_key_values=cache, use_cache=True)
            sizes.append(sum(layer.branch.nbytes for layer in cache.layers))  # type: ignore[attr-defined]
    assert max(sizes[3:]) == min(sizes[3:])


def test_a_cache_that_the_branch_has_not_seen_is_refused() -> None:
    model, ids = tiny("llama"), tokens()
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        add_krause_branch(model)
        with pytest.raises(ValueError, match="of which the branch has seen 0"):
            model(ids[:, :1], past_key_values=cache)
        cache = model(ids, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="cannot take tokens back"):
            cache.crop(-2)
        cache.reset()
        assert torch.equal(
            model(ids, past_key_values=cache).logits, model(ids, use_cache=False).logits
        )
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0, 3]))
        following = ids[:2, :1]
        whole = model(torch.cat([ids[:2], following], dim=1), use_cache=False).logits[:, -1:]
        torch.testing.assert_close(model(following, past_key_values=cache).logits, whole)
    cache = model(ids, use_cache=True).past_key_values  # under gradients
    with torch.no_grad(), pytest.raises(ValueError, match=r"inside torch\.no_grad"):
        model(ids[:, :1], past_key_values=cache)


def test_a_cache_of_another_branch_is_refused() -> None:
    model, ids = tiny("llama"), tokens()
    add_krause_branch(model, window=6)
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        remove_krause_branch(model)
        add_krause_branch(model, window=12)
        with pytest.raises(ValueError, match="another branch has filled this cache"):
            model(ids[:, :1], past_key_values=cache)


def test_documents_stay_apart_where_the_host_s_kernel_gets_no_mask() -> None:
    """As flash kernels: they part packed documents by themselves, and are told by positions."""
    model, hidden = branched("llama"), torch.randn(1, 20, 32)
    host, other = model.model.layers[0].self_attn, hidden.clone()
    other[:, :8] = torch.randn(1, 8, 32)
    place = torch.cat([torch.arange(8), torch.arange(12)]).unsqueeze(0)
    turn = model.model.rotary_emb(hidden, place)
    outputs = []
    for x in (hidden, other):
        given = {"hidden_states": x, "position_embeddings": turn, "position_ids": place}
        output = (torch.zeros(1, 20, 32), None)  # the pretrained attention's, without documents
        outputs.append(blend(host, (), given, output)[0][:, 8:])
    assert torch.equal(*outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of flex attention's masks
def test_masks_of_other_kinds_are_refused(unchecked: None) -> None:
    model, ids = branched("llama"), tokens()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="attn_implementation='sdpa'"), torch.no_grad():
        model(ids)


def test_what_is_refused() -> None:
    model = tiny("llama")
    for options, says in (
        ({"window": 0}, "window counts keys"),
        ({"top_k": 0}, "top_k counts keys"),
        ({"sigma": 0.0}, "sigma is a width"),
        ({"start": "mixed"}, "did you mean 'mix'"),
        ({"mechanism": "kuramoto"}, "mechanism is one of softmax, krause"),
        ({"mechanism": "softmax", "sigma": 2.0}, "softmax has no sigma"),
    ):
        with pytest.raises(ValueError, match=says):
            add_krause_branch(model, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has no branch"):
        remove_krause_branch(model)
    add_krause_branch(model)
    with pytest.raises(ValueError, match="has branches already"):
        add_krause_branch(model)
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2))
    with pytest.raises(ValueError, match="are for Llama, Qwen2, Qwen3 of transformers, not 'gpt2'"):
        add_krause_branch(gpt)
    with pytest.raises(ValueError, match="not 'Linear'"):
        add_krause_branch(nn.Linear(2, 2))
    model = tiny("qwen2")
    model.config.is_causal = False
    with pytest.raises(ValueError, match="is not causal"):
        add_krause_branch(model)
