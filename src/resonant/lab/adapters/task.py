"""Low-rank adaptation of a pretrained language model as a task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diagnostics import summarize_record
from ...errors import UserError
from ...functional import Causal, Full
from ...integrations.adapters import describe_trainable, lora_config, save_branch
from ...integrations.attention_interface import use_attention
from ...integrations.branch import BranchConfig, attach
from ...integrations.families import decoder_attentions
from ...integrations.libraries import need
from ...integrations.opening import open_causal
from ...integrations.sinks import attention_sinks, record_transformer
from ...models.base import learned_numbers
from ..kit.config import RunConfig, check_corpus
from ..kit.summary import with_texts
from ..kit.task import Outcome
from .bases import base_folder, check_base
from .config import NEAR, NEAR_TOKENS, TOO_LONG, InstructionsConfig
from .instructions import load_instructions
from .model_config import REPLACEMENT, AdaptersModelConfig, BranchAttentionConfig, kept_bases
from .texts import text_of, windows
from .tokenized import Tokenized, padded, tokenized

EVALUATION_BATCH = 16
BESIDE_COUNT, BESIDE_LENGTH = 24, 512  # pieces of the text beside, and tokens of each
SAMPLE_PROMPT = 40  # tokens of a sample's prompt that are told, at most


class AdaptersTask:
    """Losses in nats per token of the responses."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        assert isinstance(config.data, InstructionsConfig)
        assert isinstance(config.model, AdaptersModelConfig)
        self.config, self.device = config, torch.device(device)
        self.instructions = load_instructions(config.data)
        check_corpus(config, self.instructions.digest, "examples")
        check_base(config)
        pretrained, self.tokenizer = open_base(config.model.base)
        self.model: Any = adapted(pretrained, config).to(self.device)
        self.start = _learned(self.model)
        self.pad = _pad(self.tokenizer)
        longest = config.training.context
        given = self.instructions.splits
        self.splits = {
            split: tokenized(examples, self.tokenizer, longest=longest)
            for split, examples in given.items()
        }
        self.beside: list[list[int]] = []
        if config.data.beside is not None:
            text = text_of(config.data.beside, self.tokenizer, data_dir)
            self.beside = windows(text, self.tokenizer, BESIDE_COUNT, BESIDE_LENGTH)
        # Those whose response begins beyond the context.
        self.too_long = sum(len(given[split]) - len(kept) for split, kept in self.splits.items())

    def example(self, index: int) -> Tokenized:
        """The ``index``-th example of training: whole rounds in orders drawn by the seed."""
        train = self.splits["train"]
        turn, place = divmod(index, len(train))
        key = [self.config.seed, turn]
        if getattr(self, "_turn", None) != turn:
            order = np.random.Generator(np.random.Philox(key=key)).permutation(len(train))
            self._turn, self._order = turn, order
        return train[int(self._order[place])]

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of ``step``, as the model takes it."""
        size = self.config.training.batch_size
        rows = [self.example(step * size + i) for i in range(size)]
        return {name: x.to(self.device) for name, x in self.collated(rows).items()}

    def collated(self, rows: list[Tokenized]) -> dict[str, Tensor]:
        """Examples as one batch, padded on the right."""
        return padded(rows, self.pad)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of the responses in the batch of ``step``."""
        return self.model(**self.batch(step), use_cache=False).loss

    def evaluate(self, split: str) -> float:
        """Mean loss in nats per token of the responses, over a fixed part of ``split``."""
        with torch.no_grad(), as_loaded(self.model):
            return self._loss_of(split)

    def _loss_of(self, split: str) -> float:
        chosen = self._evaluated(split)
        training, total, count = self.model.training, 0.0, 0
        self.model.eval()
        for start in range(0, len(chosen), EVALUATION_BATCH):
            batch = padded(chosen[start : start + EVALUATION_BATCH], self.pad)
            batch = {name: x.to(self.device) for name, x in batch.items()}
            labels = batch.pop("labels")[:, 1:]
            logits = self.model(**batch, use_cache=False).logits[:, :-1].float()
            total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
            count += int((labels != -100).sum())
        self.model.train(training)
        return total / count

    @torch.no_grad()
    def _loss_beside(self) -> float:
        """Mean loss in nats per token of a text, each piece from its second token on."""
        training = self.model.training
        self.model.eval()
        losses = []
        for piece in self.beside:
            ids = torch.tensor([piece], device=self.device)
            losses.append(self.model(input_ids=ids, labels=ids, use_cache=False).loss.item())
        self.model.train(training)
        return sum(losses) / len(losses)

    def _evaluated(self, split: str) -> list[Tokenized]:
        """Examples by length, so that little is padding; the same for every seed and arm."""
        most = self.config.training.evaluated(split)
        return sorted(self.splits[split][:most], key=lambda example: len(example.ids))

    @property
    def tokens_per_step(self) -> int:
        """Tokens per training step, on average, prompts included."""
        mean = np.mean([len(example.ids) for example in self.splits["train"]])
        return round(self.config.training.batch_size * float(mean))

    def finish(self) -> Outcome:
        """Losses; parameters, what learns, sinks by layer and head, a response sampled."""
        with as_loaded(self.model):
            return self._measured()

    def _measured(self) -> Outcome:
        metrics = {"valid_loss": self.evaluate("valid"), "test_loss": self.evaluate("test")}
        if self.beside:
            metrics["beside_loss"] = self._loss_beside()
        prompt, text = self._sample()
        parameters = dict(self.model.named_parameters())
        facts = {
            "device": str(self.device),
            "parameters": sum(p.numel() for p in parameters.values()),
            "attention_parameters": sum(
                p.numel() for name, p in parameters.items() if ".self_attn." in name
            ),
            "trainable_parameters": sum(p.numel() for p in parameters.values() if p.requires_grad),
            "trainable": describe_trainable(self.model).splitlines(),
            "learned_numbers": {"start": self.start, "end": _learned(self.model)},
            "sinks": self._sinks(),
            NEAR: self._sinks(NEAR_TOKENS),
            TOO_LONG: self.too_long,
            "prompt": prompt,
            "sample": text,
        }
        return Outcome(metrics, facts, self._at_work())

    def _sinks(self, most: int | None = None) -> dict[str, list[list[float]]]:
        """By branch, layer and head, over the validation examples, or their first ``most``."""
        inputs = {name: x[:, :most] for name, x in self._looked_at().items()}
        which = ["pretrained"]
        if _is(self.config, "branch"):
            which.append("branch")
        return {each: attention_sinks(self.model, of=each, **inputs).tolist() for each in which}

    def _looked_at(self) -> dict[str, Tensor]:
        """The longest validation examples, as the model takes them."""
        batch = padded(self._evaluated("valid")[-EVALUATION_BATCH:], self.pad)
        return {name: x.to(self.device) for name, x in batch.items() if name != "labels"}

    @torch.no_grad()
    def _sample(self) -> tuple[str, str]:
        """What the model answers, always the likeliest token, to the first validation prompt."""
        example = self.splits["valid"][0]
        prompt = torch.tensor([example.ids[: example.prompt]], device=self.device)
        training = self.model.training
        self.model.eval()
        ids = self.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max(1, self.config.training.sample_tokens),
            do_sample=False,
            pad_token_id=self.pad,
        )[0]
        self.model.train(training)
        decode = self.tokenizer.decode
        said = decode(ids[prompt.shape[1] :], skip_special_tokens=True)
        return decode(prompt[0][-SAMPLE_PROMPT:]), said

    def _at_work(self) -> dict[str, dict]:
        """What the pretrained attention does with a few examples."""
        inputs = self._looked_at()
        found = summarize_record(record_transformer(self.model, of="pretrained", **inputs))
        ids = inputs["input_ids"][0]
        return with_texts(found, [self.tokenizer.decode([token]) for token in ids.tolist()])

    def save(self, directory: Path) -> None:
        """The adapter and what it stands on: ``resonant.integrations.restore_attention``."""
        if _is(self.config, REPLACEMENT):
            self.model.save_pretrained(str(directory))
        else:
            save_branch(self.model, directory)


@contextmanager
def as_loaded(model: nn.Module) -> Iterator[None]:
    """Let ``model`` compute inside the block as it does when it is loaded: in its own precision.

    A Trainer puts a ``forward`` under autocast on the model, and leaves it there: a run that goes
    on behind its last step has none, and must measure the same.
    """
    trained = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if trained is not None:
            model.__dict__["forward"] = trained


def _is(config: RunConfig, place: str) -> bool:
    """Whether an attention of ours stands in ``place``."""
    chosen = config.model.attention  # type: ignore[union-attr]
    return chosen.mechanism != "none" and chosen.place == place


def open_base(base: str) -> tuple[Any, Any]:
    """The pretrained model and its tokenizer.

    Raises ``UserError`` for what transformers cannot open.
    """
    try:
        model, tokenizer = open_causal(base_folder(base) if base in kept_bases() else base)
    except UserError as error:
        raise UserError(f"model.base: {error}, or {', '.join(kept_bases())}") from error
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {base!r} tells no offsets, by which responses are found; use a fast "
            "tokenizer (tokenizer.json)"
        )
    return model, tokenizer


def adapted(pretrained: nn.Module, config: RunConfig) -> Any:
    """``pretrained`` with the branch and the adapters of ``config``, started by its seed."""
    model = config.model
    assert isinstance(model, AdaptersModelConfig)
    torch.manual_seed(config.seed)
    try:
        if model.attention.mechanism != "none":
            _set_up(pretrained, model.attention)
        lora = lora_config(pretrained, rank=model.rank, alpha=model.alpha, dropout=model.dropout)
    except (TypeError, ValueError) as error:
        raise UserError(f"arm {config.arm!r} cannot be built: {error}") from error
    # One seed gives the adapters of the pretrained projections the same start in every arm.
    made = need("peft").get_peft_model(pretrained, lora)
    _start_alike(made, config.seed)
    return made


def _set_up(pretrained: nn.Module, chosen: BranchAttentionConfig) -> None:
    """Put the attention of ``chosen`` beside the pretrained one, or in its place."""
    if chosen.place == "branch":
        own = {"mechanism": chosen.mechanism, "start": chosen.start, **chosen.scalars}
        attach(pretrained, BranchConfig(window=chosen.window, top_k=chosen.top_k, **own))
        return
    names = list(decoder_attentions(pretrained))
    neighborhood = Full()
    if chosen.window is not None:
        neighborhood = Causal(chosen.window, first=chosen.first)
    scalars: dict[str, Any] = dict(chosen.scalars)
    use_attention(
        pretrained,
        chosen.mechanism,
        layers=names if chosen.layers == "all" else names[1::2],
        neighborhood=neighborhood,
        top_k=chosen.top_k,
        check=False,  # a law of the mechanism, not of a run
        **scalars,
    )


@torch.no_grad()
def _start_alike(model: nn.Module, seed: int) -> None:
    """Draw every low-rank matrix by its own name, so that arms share those that they share."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            drawn = np.random.Generator(np.random.Philox(key=[seed, _number(name)]))
            bound = parameter.shape[1] ** -0.5  # as nn.Linear and PEFT start
            values = drawn.uniform(-bound, bound, size=tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def _learned(model: nn.Module) -> dict[str, list[float]]:
    """Learned scalars by module; PEFT keeps the values from before beside them."""
    found = learned_numbers(model)
    return {
        name.removeprefix("base_model.model.model.").replace(".modules_to_save.default", ""): x
        for name, x in found.items()
        if ".original_module" not in name
    }


def _pad(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return 0 if pad is None else int(pad)
