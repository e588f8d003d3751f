"""The self-test of ``use_attention``: inputs that a model takes, and what is checked with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import Certificate, Subject, Verdict, certify, guess_subject
from ..nn.modes import evaluating

LACKS = "which Resonant's attention lacks"  # said where a host's attention is more than ours
BATCH = 3
WAVE = 4_000  # samples of sound, enough for the convolutions of wav2vec and its kin


class Conditioned(nn.Module):
    """A model that also takes ``given``, as a function of its decoder's token ids alone."""

    def __init__(self, model: nn.Module, given: dict[str, Tensor]) -> None:
        super().__init__()
        self.model, self.given = model, given

    def forward(self, decoder_input_ids: Tensor) -> Any:
        """Compute the model's output; every row is given the same."""
        count = len(decoder_input_ids)
        rows = {name: x[:1].expand(count, *x.shape[1:]) for name, x in self.given.items()}
        return self.model(decoder_input_ids=decoder_input_ids, **rows)


def self_test(
    model: Any,
    hosts: dict[nn.Module, str],
    *,
    before: Callable[[], Any],
    watch: Callable[[], Any],
) -> Certificate:
    """Certify a model in which every one of ``hosts``, by name, attends through the interface.

    ``before`` makes a context in which the model attends as it did, to tell its own failures from
    ours; ``watch`` makes one that collects which hosts attended. Inputs are token ids; where
    outputs are no sequence (classifiers) those of the model without its head; images and sound of
    the sizes in the configuration. Of those nothing can be checked token by token but a decoder's
    causality.

    Raises ``ValueError`` for a model that takes none of these, where a host did not attend, and
    where a check fails that did not fail before.
    """
    decoder = any(getattr(host, "is_causal", False) for host in hosts)
    call, subject = _inputs(model, decoder)
    with evaluating(model), watch() as seen:
        call()
    missed = [name for host, name in hosts.items() if host not in seen]
    if missed:
        raise ValueError(
            f"{missed[0]} was not called with {model.main_input_name} alone, or computes attention "
            "by itself and not through the interface of transformers; choose other layers"
        )
    if subject is None:
        says = f"the model takes {model.main_input_name} and gives no sequence to check by token"
        name = f"{type(model).__name__}; {model.main_input_name}"
        return Certificate(name, (Verdict("padding", "not checked", says),))
    checks = _checks(subject, decoder)
    certificate = certify(subject, checks)
    failing = {v.check for v in certificate.verdicts if v.status == "fails"}
    own: set[str] = set()
    if failing:
        with before():
            untouched = certify(subject, tuple(sorted(failing)))
        own = {v.check for v in untouched.verdicts if v.status == "fails"}
    if failing - own:
        raise ValueError(f"the model fails its self-test and was put back:\n{certificate}")
    verdicts = (
        replace(v, says=f"{v.says}; the untouched model fails this too") if v.check in own else v
        for v in certificate.verdicts
    )
    return replace(certificate, verdicts=tuple(verdicts))


def _checks(subject: Subject, decoder: bool) -> tuple[str, ...]:
    if isinstance(subject.model, Conditioned):
        return ("causality",)
    return ("causality", "padding", "cache") if decoder else ("padding",)


def _inputs(model: Any, decoder: bool) -> tuple[Callable[[], Any], Subject | None]:
    """A call of the whole model, and what to check of it token by token, if anything."""
    reasons = []
    for part in _parts(model):
        try:
            vocabulary = getattr(model.config.get_text_config(), "vocab_size", None)
            subject = guess_subject(part, vocabulary=vocabulary, batch=BATCH)
            return partial(subject.call, subject.rows(subject.inputs)), subject
        except ValueError as error:
            if LACKS in str(error):  # no other inputs would help
                raise
            reasons.append(error)
    given = _made(model)
    if given is None:
        raise ValueError(
            "the self-test cannot make inputs for this model; pass check=False, and certify it "
            f"with resonant.checks.Subject and certify ({reasons[0] if reasons else 'no text'})"
        )
    if model.config.is_encoder_decoder and decoder:
        conditioned = Conditioned(model, given)
        subject = guess_subject(conditioned, vocabulary=model.config.vocab_size, batch=BATCH)
        return partial(subject.call, subject.rows(subject.inputs)), subject
    return partial(model, **given), None


def _parts(model: Any) -> Iterator[Any]:
    """The model, then the model without its head: what its output is made of."""
    if model.main_input_name == "input_ids":
        yield model
        if model.base_model is not model:
            yield model.base_model


def _made(model: Any) -> dict[str, Tensor] | None:
    """Random inputs of the sizes that the configuration names, by the argument they are for."""
    config, name = model.config, model.main_input_name
    generator = torch.Generator().manual_seed(0)
    like = next(model.parameters())

    def drawn(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator).to(like)

    if name == "pixel_values" and hasattr(config, "image_size"):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        return {name: drawn(getattr(config, "num_channels", 3), height, width)}
    if name == "input_features" and hasattr(config, "num_mel_bins"):
        frames = 2 * getattr(config, "max_source_positions", 64)  # two of them make one token
        return {name: drawn(config.num_mel_bins, frames)}
    if name == "input_values" and hasattr(config, "conv_dim"):
        return {name: drawn(WAVE)}
    return None
