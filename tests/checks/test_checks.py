"""The checks tell sound models from unsound ones, and name the layer."""

import re
from collections.abc import Callable

import peft
import pytest
import torch
from torch import Tensor, nn

import resonant
from resonant.checks import Subject, certify, check_causality, guess_subject
from resonant.testing import assert_cache, assert_causal, assert_padding
from tests.checks import models

ENCODER_MASK = torch.ones(29, 29, dtype=torch.bool).triu(1)


def test_a_plain_encoder_without_a_mask_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"causality fails: .* first in layers\.0\.self_attn"):
        assert_causal(models.encoder())


def test_a_plain_encoder_with_a_mask_is_certified() -> None:
    options = {"mask": ENCODER_MASK, "is_causal": True}
    assert_causal(models.encoder(), torch.randn(2, 29, 16), options=options)
    assert_causal(models.MaskedEncoder())
    assert_padding(models.encoder())
    assert_padding(models.MaskedEncoder())


def test_progress_counts_the_calls() -> None:
    parts: dict[str, list[int]] = {}

    def part(check: str, count: int) -> Callable[[int], None]:
        parts[check] = [count]
        return parts[check].append

    model = resonant.language_model("0.11M", vocabulary=9).eval()
    assert certify(guess_subject(model, length=13, vocabulary=9), part=part).holds
    assert parts["causality"] == [12, *range(1, 13)]
    assert parts["cache"] == [9, *range(1, 10)]  # a chunk of 5, then 8 tokens


@pytest.mark.parametrize("make", [models.ours, models.krause_layer])
def test_ours_is_certified(make) -> None:
    assert_causal(make())
    assert_padding(make())
    assert_cache(make())


def test_a_gate_over_the_whole_sequence_is_caught_by_name() -> None:
    leaking = models.leaking()
    with pytest.raises(AssertionError, match=r"first in blocks\.0\.attention\.gate"):
        assert_causal(leaking)
    with pytest.raises(
        AssertionError, match=r"cache fails: .* first in blocks\.0\.attention\.gate"
    ):
        assert_cache(leaking)
    sound = models.language_model(gate="energy")
    assert_causal(sound)


def test_a_leak_between_layers_is_placed() -> None:
    with pytest.raises(AssertionError, match="first in the model itself, before its out"):
        assert_causal(models.Peeking())
    assert_causal(models.Peeking(), tolerance=0.1)


def test_sequence_first_and_several_outputs() -> None:
    subject = guess_subject(models.Recurrent())
    assert subject.sequence_axis == 0  # its LSTM says batch_first=False
    certificate = certify(subject)
    assert [v.status for v in certificate.verdicts] == ["holds", "not checked", "not checked"]
    encoder = models.encoder(batch_first=False)
    assert guess_subject(encoder).sequence_axis == 0
    with pytest.raises(AssertionError, match="causality fails"):
        assert_causal(encoder)
    assert_padding(encoder)


def test_a_dropped_padding_mask_is_caught() -> None:
    with pytest.raises(AssertionError, match="padding fails: what left padding holds changes real"):
        assert_padding(models.IgnoresPadding())
    with pytest.raises(AssertionError, match="padding not checked: forward takes no padding mask"):
        assert_padding(models.Recurrent())


def test_the_mask_s_name_and_meaning_can_be_told() -> None:
    class Renamed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = models.MaskedEncoder()

        def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
            return self.inner(x, None if kept is None else ~kept)

    assert_padding(Renamed(), mask_argument="kept", mask_means="real")
    with pytest.raises(AssertionError, match="padding fails"):
        assert_padding(Renamed(), mask_argument="kept", mask_means="padding")


def test_positions_counted_from_the_padding_are_caught() -> None:
    class Absolute(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = models.MaskedEncoder()
            self.position = nn.Embedding(64, 16)

        def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
            return self.inner(x + self.position(torch.arange(x.shape[1])), key_padding_mask)

    with pytest.raises(AssertionError, match="are positions counted from the padding"):
        assert_padding(Absolute(), width=16)


def test_a_cache_as_in_transformers() -> None:
    assert_cache(models.PastKeyValues())
    assert_padding(models.PastKeyValues())
    with pytest.raises(AssertionError, match=r"cache fails: .* first in positions"):
        assert_cache(models.broken_cache())
    with pytest.raises(AssertionError, match="cache not checked: the model has no cache"):
        assert_cache(models.encoder())


def test_what_cannot_be_told_is_not_certified() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(1)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0.0 * 0.0

    for module, status, why in (
        (Drawing(), "fails", "one input gives two outputs"),
        (Constant(), "not checked", "no output depends on an earlier token"),
        (Nothing(), "fails", "not finite"),
    ):
        verdict = check_causality(Subject(module, torch.randn(2, 9, 4)))
        assert verdict.status == status
        assert why in verdict.says
    certificate = certify(Subject(models.Recurrent(), torch.randn(2, 9, 16)), ("padding", "cache"))
    assert not certificate.holds  # nothing was checked


def test_a_model_that_raises_is_reported() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
            if key_padding_mask is not None:
                raise RuntimeError("no masks today")
            return x.cumsum(1)

    verdicts = certify(Subject(Fixed(), torch.randn(2, 9, 4))).verdicts
    assert verdicts[1].status == "fails"
    assert "left padding raises RuntimeError: no masks today" in verdicts[1].says


def test_modes_are_restored_and_gradients_not_needed() -> None:
    model = models.ours().train()
    model.blocks[0].eval()
    modes = [m.training for m in model.modules()]
    certify(guess_subject(model))
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_function_is_a_model_too() -> None:
    def running_mean(x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(1, -1, 1)

    assert_causal(running_mean, torch.randn(2, 29, 3))
    with pytest.raises(AssertionError, match="causality fails"):
        assert_causal(lambda x: x - x.mean(1, keepdim=True), torch.randn(2, 29, 3))


@pytest.mark.parametrize("make", [models.TurnedInside, models.encoder])
def test_the_batch_is_not_taken_for_the_sequence(make) -> None:
    assert guess_subject(make()).sequence_axis == 1
    with pytest.raises(AssertionError, match="causality fails"):
        assert_causal(make())


def test_what_starts_at_zero_is_not_certified() -> None:
    certificate = certify(guess_subject(models.ZeroAtFirst()))
    assert {v.status for v in certificate.verdicts} == {"not checked"}
    assert not certificate.holds
    assert "starts at zero (give it weights)" in certificate.verdicts[0].says


@pytest.mark.parametrize("block", [5, 16, 64, 128])
def test_a_leak_at_the_end_of_blocks_is_found(block: int) -> None:
    with pytest.raises(AssertionError, match="causality fails") as caught:
        assert_causal(models.RunningSum(block))
    where = re.search(r"from (\d+) on changes token (\d+) ", str(caught.value))
    assert where is not None
    assert int(where[1]) % block == 0
    assert int(where[2]) == int(where[1]) - 1
    assert_causal(models.RunningSum(0))


def test_small_outputs_are_held_to_their_own_size() -> None:
    with pytest.raises(AssertionError, match="cache fails"):
        assert_cache(models.RunningSum(0))


def test_attention_masks_of_either_meaning_and_kind() -> None:
    assert_padding(models.Masked())
    assert_padding(models.Masked(blocked=True), mask_means="padding")
    with pytest.raises(AssertionError, match="padding fails"):
        assert_padding(models.Masked(blocked=True))


def test_inputs_that_go_by_keyword_alone() -> None:
    class Named(models.Masked):
        def forward(self, *, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return super().forward(input_ids, attention_mask)

    assert_causal(Named())
    assert_padding(Named())


def test_short_tables_of_positions_are_taken_into_account() -> None:
    subject = guess_subject(models.Masked(positions=16))
    assert (subject.length, subject.sequence_axis) == (13, 1)
    assert_causal(models.Masked(positions=16))


def test_padding_that_reaches_nothing_certifies_nothing() -> None:
    class Alone(nn.Module):
        def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
            return x.sin()

    verdict = certify(Subject(Alone(), torch.randn(2, 9, 4)), ("padding",)).verdicts[0]
    assert verdict.status == "not checked"
    assert "padding reaches no real token even without the mask" in verdict.says


def test_a_model_that_cannot_be_called_is_a_mistake_of_the_user() -> None:
    with pytest.raises(ValueError, match=r"cannot be called with inputs of shape \(2, 9, 7\)"):
        certify(Subject(models.encoder(), torch.randn(2, 9, 7)))
    with pytest.raises(ValueError, match="forward has no argument 'nosuch'; it has x"):
        Subject(models.MaskedEncoder(), torch.randn(2, 9, 16), mask_argument="nosuch")
    for tolerance in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tolerance is a number from 0 on"):
            certify(Subject(models.encoder(), torch.randn(2, 9, 16)), tolerance=tolerance)


def test_rounding_is_named_where_it_may_be_the_cause() -> None:
    class Spectral(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kernel = torch.fft.rfft(torch.ones(x.shape[1]) * 0.1, 2 * x.shape[1])
            spectrum = torch.fft.rfft(x, 2 * x.shape[1], dim=1) * kernel[:, None]
            return torch.fft.irfft(spectrum, 2 * x.shape[1], dim=1)[:, : x.shape[1]]

    verdict = check_causality(Subject(Spectral(), torch.randn(2, 29, 4)))
    assert "may be rounding (of an FFT, say): see tolerance" in verdict.says
    assert_causal(Spectral(), torch.randn(2, 29, 4), tolerance=1e-3)


def test_what_is_no_sequence_says_so() -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).mean(1)

    with pytest.raises(ValueError, match=r"cannot guess what the model takes .*keeps batch"):
        guess_subject(Pooling())
    with pytest.raises(ValueError, match="at least 4 tokens, but their shape is"):
        Subject(Pooling(), torch.randn(2, 3, 16))
    with pytest.raises(ValueError, match="sequence_axis is 0 or 1"):
        Subject(Pooling(), torch.randn(2, 9, 16), sequence_axis=2)
    with pytest.raises(ValueError, match="no check is called 'speed'"):
        certify(Subject(nn.Identity(), torch.randn(2, 9, 16)), ("speed",))


def test_rows_that_a_capacity_couples_are_not_taken_for_the_sequence() -> None:
    """The coupling is told as such, not certified, also where a short input would show none."""
    for capacity in (200, 87, 8):
        coupled = guess_subject(models.Experts(capacity))
        assert coupled.sequence_axis == 1
        verdict = check_causality(coupled)
        assert verdict.status == "fails"
        assert "depend on other rows of its batch" in verdict.says
        assert "for one row alone it holds" in verdict.says
    free = guess_subject(models.Experts(1000))
    assert free.sequence_axis == 1
    assert check_causality(free).status == "holds"
    both = check_causality(guess_subject(models.Experts(8, causal=False)))
    assert "for one row alone it fails" in both.says


def wrapped(kind: str) -> nn.Module:
    model = models.ours()
    if kind == "peft":
        config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        return peft.get_peft_model(model, config)
    if kind == "parallel peft":
        return nn.DataParallel(wrapped("peft"))
    return nn.DataParallel(model)


@pytest.mark.parametrize("kind", ["peft", "parallel", "parallel peft"])
def test_checks_look_inside_wrappers(kind: str) -> None:
    certificate = certify(guess_subject(wrapped(kind), length=13))
    assert [v.status for v in certificate.verdicts] == ["holds"] * 3


def test_checks_look_inside_a_compiled_model() -> None:
    model = torch.compile(models.MaskedEncoder(), backend="eager", dynamic=True)
    verdicts = certify(guess_subject(model, length=13, width=16)).verdicts
    assert [v.status for v in verdicts[:2]] == ["holds", "holds"]
