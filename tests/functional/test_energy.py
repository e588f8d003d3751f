"""Energy gates: the definition, its limits, its causality, and sums that survive long texts."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from resonant.functional import (
    Causal,
    Lift,
    Mechanism,
    Scalar,
    attend,
    attention_weights,
    energy_gate,
    energy_log_gate,
    mechanism,
    standardize_prefix,
)
from resonant.functional.energy import PrefixSums
from resonant.testing import LAWS, draw
from tests.laws import over_budget, plain_attention

BATCH, HEADS, KEYS = 2, 2, 23


def energies(keys: int = KEYS, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, HEADS, keys, generator=generator, dtype=torch.float64).to(dtype)


def by_definition(energy: Tensor, mask: Tensor, documents: Tensor) -> Tensor:
    """Mean and biased variance of the real keys so far, one key at a time."""
    z = torch.zeros_like(energy)
    for row in range(energy.shape[0]):
        for j in range(energy.shape[2]):
            if not mask[row, j]:
                continue
            seen = mask[row, : j + 1] & (documents[row, : j + 1] == documents[row, j])
            past = energy[row, :, : j + 1][:, seen]
            deviation = (past.var(-1, unbiased=False) + 1e-6).sqrt()
            z[row, :, j] = (energy[row, :, j] - past.mean(-1)) / deviation
    return z


def masks() -> dict[str, Tensor]:
    position = torch.arange(KEYS)
    left = torch.stack([position >= 0, position >= 9])
    right = torch.stack([position < 20, position < 1])
    return {"none": torch.ones(BATCH, KEYS, dtype=torch.bool), "left": left, "right": right}


LABELS = torch.tensor([[0] * KEYS, [4] * 10 + [2] * 1 + [7] * 12])


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("packed", [False, True])
def test_prefix_statistics_are_the_definition(padding: str, packed: bool) -> None:
    mask = masks()[padding]
    documents = LABELS if packed else torch.zeros_like(LABELS)
    z, _ = standardize_prefix(energies(), mask=mask, documents=LABELS if packed else None)
    expected = by_definition(energies(), mask, documents)
    torch.testing.assert_close(z.masked_fill(~mask.unsqueeze(1), 0.0), expected)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, 23])
def test_sums_go_on_where_they_stopped(padding: str, packed: bool, chunk: int) -> None:
    mask, documents = masks()[padding], LABELS if packed else None
    whole, _ = standardize_prefix(energies(), mask=mask, documents=documents)
    past: PrefixSums | None = None
    for start in range(0, KEYS, chunk):
        piece = slice(start, start + chunk)
        labels = None if documents is None else documents[:, piece]
        z, past = standardize_prefix(
            energies()[..., piece], mask=mask[:, piece], documents=labels, past=past
        )
        real = mask[:, None, piece].expand_as(z)
        torch.testing.assert_close(z[real], whole[..., piece][real], atol=1e-12, rtol=1e-12)
        order = torch.tensor([0, 1])
        past = past.reorder(order)
        assert past.nbytes > 0


def test_the_first_key_is_neutral_and_scale_and_bias_cancel() -> None:
    z, _ = standardize_prefix(energies())
    assert z[..., 0].eq(0).all()
    turned, _ = standardize_prefix(7 * energies() - 3)
    torch.testing.assert_close(turned, z, atol=1e-4, rtol=1e-4)


def test_the_gate_multiplies_weights_and_renormalizes() -> None:
    lift = Lift(*(torch.randn(2, 2, KEYS, 4, dtype=torch.float64) for _ in range(3)))
    alpha, tau = torch.tensor([2.0, 0.7]), torch.tensor([0.1, -1.0])
    for standardize in ("prefix", "none"):
        options: Any = {"standardize": standardize}
        gated = energy_gate(lift, energies(), alpha, tau, **options)
        weights = attention_weights(lift, Causal())
        gate = energy_log_gate(energies(), alpha, tau, **options).exp().unsqueeze(2)
        expected = weights * gate / (weights * gate).sum(-1, keepdim=True)
        torch.testing.assert_close(attention_weights(gated, Causal()), expected)


@pytest.mark.parametrize(("alpha", "tau"), [(0.0, 0.3), (2.0, -math.inf), (0.0, -math.inf)])
def test_off_is_exactly_no_gate(alpha: float, tau: float) -> None:
    for dtype in (torch.float32, torch.float64):
        lift = Lift(*(torch.randn(2, 2, KEYS, 4, dtype=dtype) for _ in range(3)))
        steepness = torch.full((HEADS,), alpha, requires_grad=True)
        threshold = torch.full((HEADS,), tau, requires_grad=True)
        gated = energy_gate(lift, energies(dtype=dtype), steepness, threshold)
        assert gated.key_bias is not None
        assert gated.key_bias.eq(0).all()
        plain, ours = (attend(x, Causal(), path="materialized") for x in (lift, gated))
        assert torch.equal(plain, ours)
        ours.sum().backward()
        for scalar in (steepness, threshold):
            assert scalar.grad is not None
            assert scalar.grad.isfinite().all()


def test_prefix_keeps_every_bit_of_the_past_and_sequence_does_not() -> None:
    before, after = energies(dtype=torch.float32), energies(dtype=torch.float32)
    after[..., 12:] = 1e3 * energies(dtype=torch.float32, seed=1)[..., 12:]
    kept = [energy_log_gate(x, 2.0, 0.0)[..., :12] for x in (before, after)]
    assert torch.equal(*kept)
    options: Any = {"standardize": "sequence", "allow_future_leak": True}
    past, other_past = (energy_log_gate(x, 2.0, 0.0, **options)[..., :12] for x in (before, after))
    assert not torch.allclose(past, other_past)


def test_sequence_statistics_are_those_of_real_keys_of_one_document() -> None:
    mask = masks()["left"]
    for documents in (None, LABELS):
        gates = energy_log_gate(
            energies(), 2.0, 0.5, standardize="sequence", mask=mask, documents=documents,
            allow_future_leak=True,
        )  # fmt: skip
        labels = torch.zeros_like(LABELS) if documents is None else documents
        for row in range(BATCH):
            for label in labels[row].unique():
                where = mask[row] & (labels[row] == label)
                if not where.any():
                    continue
                own = energies()[row][:, where]
                deviation = own.std(-1, unbiased=False, keepdim=True).clamp(min=1e-8)
                z = (own - own.mean(-1, keepdim=True)) / deviation
                expected = torch.nn.functional.logsigmoid(2.0 * (z - 0.5))
                torch.testing.assert_close(gates[row][:, where], expected)


def test_no_document_reaches_another_by_a_bit() -> None:
    documents = torch.tensor([[0] * 9 + [1] * 14]).expand(BATCH, -1)
    loud = energies()
    loud[..., :9] = math.nan
    gates = [energy_log_gate(x, 2.0, 0.0, documents=documents)[..., 9:] for x in (energies(), loud)]
    assert torch.equal(*gates)
    alone = energy_log_gate(energies()[..., 9:], 2.0, 0.0)
    torch.testing.assert_close(gates[0], alone, atol=1e-12, rtol=1e-12)


def test_padding_may_hold_anything() -> None:
    mask = masks()["left"]
    poisoned = energies().masked_fill(~mask.unsqueeze(1), math.nan)
    gates = [energy_log_gate(x, 2.0, 0.0, mask=mask) for x in (energies(), poisoned)]
    where = mask.unsqueeze(1).expand_as(gates[0])
    assert torch.equal(gates[0][where], gates[1][where])


def test_sums_survive_65536_positions_after_an_outlying_first_token() -> None:
    length = 65_536
    generator = torch.Generator().manual_seed(0)
    energy = torch.randn(1, 1, length, generator=generator) + 5
    energy[..., 0] = 3e3
    exact = energy.double()
    count = torch.arange(1, length + 1, dtype=torch.float64)
    centered = exact - 5  # the oracle's sums, about the mean of what follows the outlier
    mean = centered.cumsum(-1) / count
    variance = centered.square().cumsum(-1) / count - mean.square()
    expected = (centered - mean) / (variance + 1e-6).sqrt()
    ours, _ = standardize_prefix(energy)
    assert (ours.double() - expected)[..., 1:].abs().max() < 1e-5
    low = energy - energy[..., :1]
    low_mean = low.cumsum(-1) / count.float()
    low_variance = (low.square().cumsum(-1) / count.float() - low_mean.square()).clamp(min=0)
    in_float32 = (low - low_mean) / (low_variance + 1e-6).sqrt()
    assert (in_float32.double() - expected)[..., 1:].abs().max() > 1e-3  # the test can fail


def test_gradients_of_every_standardization() -> None:
    energy = energies(7)[:1].requires_grad_()
    scalars = [
        torch.tensor(x, dtype=torch.float64).requires_grad_() for x in ([2.0, 1.5], [0.1, 0])
    ]
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    for standardize in ("prefix", "sequence", "none"):
        for labels in (None, documents):
            gate = partial(
                energy_log_gate,
                standardize=standardize,
                documents=labels,
                allow_future_leak=standardize == "sequence",
            )
            assert torch.autograd.gradcheck(gate, (energy, *scalars))


def gated(name: str) -> Mechanism:
    """A mechanism with a gate whose energy is the first feature of each key."""
    plain = mechanism(name)

    def lift(
        query: Tensor, key: Tensor, value: Tensor, alpha: Tensor, tau: Tensor, **own: Tensor
    ) -> Lift:
        groups = query.shape[1] // key.shape[1]
        per_key_head = (x[::groups] for x in (alpha, tau))
        return energy_gate(plain.lift(query, key, value, **own), key[..., 0], *per_key_head)

    scalars = {
        "alpha": Scalar(2.0, 0.0, name, positive=False),
        "tau": Scalar(0.2, -math.inf, name, positive=False),
    }
    return Mechanism(f"{name} + gate", lift, {**plain.scalars, **scalars})


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(name, law, marks=pytest.mark.slow if long else ())
        for name in ("softmax", "krause", "softmax-sink")
        for law in ("causality", "gradients", "paths", "blind rows")
        for long in [law == "paths" and name != "krause"]
    ],
)
def test_laws_hold_for_a_gate_on_any_mechanism(name: str, law: str) -> None:
    LAWS[law](gated(name))


@pytest.mark.parametrize("name", ["softmax", "krause"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gate_keeps_the_precision_budget(name: str, dtype: torch.dtype) -> None:
    shares = []
    for seed in range(10):
        of = mechanism(name)
        inputs = draw(of, 31, 31, batch=1, seed=seed, dtype=dtype)
        energy = energies(31, seed)[:1].to(dtype)
        scalars = {n: s.detach().float() for n, s in inputs.scalars.items()}

        def run(
            wide: torch.dtype,
            inputs=inputs,
            energy: Tensor = energy,
            of: Mechanism = of,
            scalars: dict[str, Tensor] = scalars,
        ) -> Tensor:
            tensors = tuple(x.detach().to(wide) for x in (inputs.query, inputs.key, inputs.value))
            tensors = (tensors[0], *(x.repeat_interleave(2, dim=1) for x in tensors[1:]))
            gate = energy_log_gate(energy.to(wide), 2.0, 0.0).to(wide).repeat_interleave(2, dim=1)
            allowed = torch.ones(31, 31, dtype=torch.bool).tril()
            return plain_attention(of.name, tensors, scalars, allowed, gate.unsqueeze(2))

        lift = of.lift(*(x.detach() for x in (inputs.query, inputs.key, inputs.value)), **scalars)
        ours = attend(energy_gate(lift, energy, 2.0, 0.0), Causal())
        shares.append(over_budget(ours, run(dtype), run(torch.float64), dtype, 2.0))
    assert sorted(shares)[5] <= 1.0, shares


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_says_why() -> None:
    with pytest.raises(ValueError, match="lets the future into every gate"):
        energy_log_gate(energies(), 2.0, 0.0, standardize="sequence")
    with pytest.raises(ValueError, match="standardize is one of prefix, sequence, none; it is 'al"):
        energy_log_gate(energies(), 2.0, 0.0, standardize="all")  # type: ignore[arg-type]
    _, past = standardize_prefix(energies())
    with pytest.raises(ValueError, match="give them in every call or in none"):
        standardize_prefix(energies(), documents=LABELS, past=past)
