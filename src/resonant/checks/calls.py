"""How a stranger's model is called: its inputs, its output, its mask, its cache."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import in_words
from ..nn.modes import evaluating

# Names under which models take a padding mask, and what True or 1 means there.
MASKS = {
    "key_padding_mask": "padding",
    "src_key_padding_mask": "padding",
    "padding_mask": "padding",
    "attention_mask": "real",
}
# Tried in this order: past the blocks of 128 that kernels work in, then short enough for small
# tables of positions; unlike the sizes of most layers, so that an axis can be told.
LENGTHS = (131, 137, 61, 29, 31, 13)


@dataclass(frozen=True)
class Subject:
    """A model, an input to call it with, and how.

    ``model`` is called as ``model(inputs, **options)``. ``inputs`` are token ids (batch, sequence)
    or features (batch, sequence, width), or with the sequence first if ``sequence_axis`` is 0. The
    output, or its first tensor, ``.logits`` or ``.last_hidden_state``, has the sequence on the same
    axis. ``mask_argument`` is the name of the padding mask among the arguments of ``forward``
    (found by its usual names if None), ``mask_means`` what True says there: "padding" or "real".

    Raises ``ValueError`` for inputs of other shapes, or too short to cut, and for a mask's name
    that ``forward`` does not have.
    """

    model: Callable[..., Any]
    inputs: Tensor
    options: Mapping[str, Any] = field(default_factory=dict)
    sequence_axis: int = 1
    mask_argument: str | None = None
    mask_means: str | None = None
    boolean_mask: bool = False  # where the usual form of attention_mask is refused

    def __post_init__(self) -> None:
        if self.sequence_axis not in (0, 1):
            raise ValueError(f"sequence_axis is 0 or 1; it is {self.sequence_axis}")
        if self.inputs.dim() not in (2, 3) or self.length < 4:
            raise ValueError(
                "inputs are token ids (batch, sequence) or features (batch, sequence, width) with "
                f"at least 4 tokens, but their shape is {tuple(self.inputs.shape)}"
            )
        if self.mask_means not in (None, "padding", "real"):
            raise ValueError(f"mask_means is padding or real; it is {self.mask_means!r}")
        named = self.parameters
        free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values())
        if self.mask_argument is not None and self.mask_argument not in named and not free:
            raise ValueError(
                f"forward has no argument {self.mask_argument!r}; it has {', '.join(named)}"
            )

    @property
    def length(self) -> int:
        """Tokens of the input."""
        return self.inputs.shape[self.sequence_axis]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The arguments that the model's ``forward`` names."""
        inner = inside(self.model)
        forward = inner.forward if isinstance(inner, nn.Module) else inner
        return dict(inspect.signature(forward).parameters)

    @property
    def mask(self) -> tuple[str, str] | None:
        """The name of the padding mask's argument and what True means, or None."""
        if self.mask_argument is not None:
            usual = MASKS.get(self.mask_argument, "padding")
            return self.mask_argument, self.mask_means or usual
        name = next((name for name in MASKS if name in self.parameters), None)
        return None if name is None else (name, self.mask_means or MASKS[name])

    def with_mask(self, real: Tensor) -> dict[str, Tensor]:
        """The padding mask as an argument of the model; ``real`` (batch, sequence) True = token."""
        assert self.mask is not None
        name, means = self.mask
        mask = real if means == "real" else ~real
        if name == "attention_mask" and not self.boolean_mask:
            return {name: mask.long()}  # as in transformers, 1 = a token
        return {name: mask}

    def with_fitting_mask(self) -> Subject:
        """The subject with the kind of mask that its model takes: integers or booleans."""
        if self.mask is None or self.mask[0] != "attention_mask":
            return self
        rows = self.rows(self.inputs)
        real = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
        try:
            self.call(rows, **self.with_mask(real))
        except Exception:  # a stranger's model may raise anything
            return dataclasses.replace(self, boolean_mask=True)
        return self

    def rows(self, x: Tensor) -> Tensor:
        """A tensor with batch first and the sequence second, or back again."""
        return x if self.sequence_axis == 1 else x.transpose(0, 1)

    def call(self, rows: Tensor, **more: Any) -> Tensor:
        """The output for inputs with batch first: (batch, sequence, ...)."""
        return self.read(self.run(rows, **more), rows)

    def run(self, rows: Tensor, **more: Any) -> Any:
        """The model's raw output for inputs with batch first."""
        options = {**self.options, **more}
        free = [p for n, p in self.parameters.items() if n not in options]
        if free and free[0].kind is inspect.Parameter.KEYWORD_ONLY:
            return self.model(**{free[0].name: self.rows(rows)}, **options)
        return self.model(self.rows(rows), **options)

    def read(self, output: Any, rows: Tensor) -> Tensor:
        """The output's tensor with batch first; ``ValueError`` if it is no sequence."""
        tensor = first_tensor(output)
        fits = tensor is not None and tensor.dim() >= 2
        if tensor is None or not fits or self.rows(tensor).shape[:2] != rows.shape[:2]:
            shape = None if tensor is None else tuple(tensor.shape)
            raise ValueError(
                f"the output of {tuple(self.rows(rows).shape)} has the shape {shape}; a model can "
                "be checked token by token only if its output keeps batch and sequence (with the "
                "sequence first? sequence_axis=0)"
            )
        return self.rows(tensor)

    def noise(self, like: Tensor, seed: int, *, loud: bool) -> Tensor:
        """Other inputs of the same kind: other ids that occur, or normal numbers, loud or not."""
        generator = torch.Generator().manual_seed(seed)
        if like.is_floating_point():
            drawn = torch.randn(like.shape, generator=generator, dtype=torch.float32)
            return (drawn * (30.0 if loud else 1.0)).to(like)
        ids = self.inputs.unique().cpu()
        drawn = ids[torch.randint(len(ids), like.shape, generator=generator)]
        return drawn.to(like)


def inside(model: Any) -> Any:
    """Find the model that PEFT, ``torch.compile`` or DataParallel wrap; others as they are.

    What a wrapper takes and keeps is said by the model inside it.
    """
    around = (
        nn.DataParallel,
        nn.parallel.DistributedDataParallel,
        torch.optim.swa_utils.AveragedModel,
    )
    if isinstance(model, around):
        return inside(model.module)
    for name in ("_orig_mod", "base_model"):  # of torch.compile; of PEFT, around its tuner
        wrapped = getattr(model, "__dict__", {}).get("_modules", {}).get(name)
        if name == "base_model" and not hasattr(model, "peft_config"):
            continue
        if isinstance(wrapped, nn.Module):
            mixed = not hasattr(model, "get_base_model")  # several adapters at once
            whole = wrapped if name != "base_model" else None
            return inside(whole or (wrapped.model if mixed else model.get_base_model()))
    return model


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a model's output is about."""
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "last_hidden_state"):
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    if isinstance(output, (tuple, list)) and output:
        return first_tensor(output[0])
    return None


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for each in value.values() for t in tensors_in(each)]
    if isinstance(value, (tuple, list)):
        return [t for each in value for t in tensors_in(each)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [t for f in dataclasses.fields(value) for t in tensors_in(getattr(value, f.name))]
    return []


def rounding(output: Tensor) -> float:
    """The largest difference that other shapes may cause by rounding alone in such outputs."""
    if output.numel() == 0:
        return 0.0
    relative = {torch.float64: 1e-9, torch.float32: 1e-4}.get(output.dtype, 3e-2)
    return relative * output.abs().max().item()


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference; infinite where one is not a number and the other is."""
    if ours.numel() == 0 or torch.equal(ours, theirs):
        return 0.0
    apart = (ours.double() - theirs.double()).abs()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return apart.masked_fill(same, 0.0).nan_to_num(float("inf"), float("inf")).max().item()


def depends(subject: Subject, *, on: str) -> bool:
    """Whether outputs depend on earlier tokens ("past"), later ones ("future") or other "rows"."""
    rows = subject.rows(subject.inputs)
    reference, half = subject.call(rows), subject.length // 2
    if on == "rows":  # who comes first must not matter: a capacity may be used up by the first
        turned = subject.call(rows.flip(0)).flip(0)
        if difference(turned, reference) > rounding(reference):
            return True
    for seed in (0, 1):
        replaced = rows.clone()
        changed, same = {
            "past": ((slice(None), slice(half)), (slice(None), slice(half, None))),
            "future": ((slice(None), slice(half, None)), (slice(None), slice(half))),
            "rows": ((slice(1),), (slice(1, None),)),
        }[on]
        replaced[changed] = subject.noise(rows[changed], seed=seed, loud=seed > 0)
        if not torch.equal(subject.call(replaced)[same], reference[same]):
            return True
    return False


BLIND = (
    "no output depends on an earlier token, so nothing could be seen: the model looks at each "
    "token alone, or its last layer starts at zero (give it weights), or batch and sequence are "
    "the other way round (sequence_axis)"
)


def guess_subject(
    model: Any, *, length: int | None = None, batch: int = 3, seed: int = 0, **known: Any
) -> Subject:
    """A subject with inputs that the model takes, found by trying.

    Token ids if the model has an embedding, else features as wide as its first layers. The sequence
    is on the axis along which outputs depend on one another; a length at which rows of the batch
    depend on one another too is the guess, for the verdict to say so. ``known`` are fields of
    ``Subject``, and ``vocabulary`` or ``width``, which decide the kind.

    Raises ``ValueError`` when no guess is taken, with the model's words about the first.
    """
    vocabulary, width = known.pop("vocabulary", None), known.pop("width", None)
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    sizes = {size for m in modules for p in m.parameters(recurse=False) for size in p.shape}
    lengths = [n for n in LENGTHS if n not in sizes] if length is None else [length]
    first = next((p for m in modules for p in m.parameters()), torch.zeros(1))
    axes = [known.pop("sequence_axis")] if "sequence_axis" in known else [1, 0]
    words, blind = None, None
    for kind, size in _guesses(modules, vocabulary, width):
        for axis in axes:  # all lengths first: what couples rows may need many tokens to do so
            coupled = None
            for tokens in lengths:
                inputs = _draw(kind, size, (batch, tokens), like=first, seed=seed).movedim(1, axis)
                try:
                    subject = Subject(model, inputs, sequence_axis=axis, **known)
                    along, across = _dependence(subject)
                except Exception as error:  # a stranger's model may raise anything
                    words = words or in_words(error)
                    continue
                if along and not across and coupled is None:
                    return subject
                coupled = coupled or (subject if along else None)
                blind = blind or subject
            if coupled is not None:  # a batch taken for the sequence would be no better
                return coupled
    if blind is not None:
        return blind
    raise ValueError(
        f"cannot guess what the model takes ({words or 'it has no layers to guess from'}); give "
        "inputs, or vocabulary (for token ids) or width (for features), or another length"
    )


def _dependence(subject: Subject) -> tuple[bool, bool]:
    """Whether outputs depend on other tokens of their row, and on other rows."""
    with evaluating(subject.model):
        subject.call(subject.rows(subject.inputs))
        along = depends(subject, on="past") or depends(subject, on="future")
        return along, depends(subject, on="rows")


def _guesses(
    modules: list[nn.Module], vocabulary: int | None, width: int | None
) -> Iterator[tuple[str, int]]:
    if vocabulary is not None:
        yield "tokens", vocabulary
        return
    if width is not None:
        yield "features", width
        return
    embedding = next((m for m in modules if isinstance(m, nn.Embedding)), None)
    if embedding is not None:
        yield "tokens", embedding.num_embeddings
    seen = set()
    for module in modules:
        for name in ("embed_dim", "d_model", "in_features", "in_channels", "input_size"):
            size = getattr(module, name, None)
            if isinstance(size, int) and size not in seen:
                seen.add(size)
                yield "features", size


def _draw(kind: str, size: int, shape: tuple[int, int], *, like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "tokens":
        return torch.randint(0, size, shape, generator=generator).to(like.device)
    return torch.randn(*shape, size, generator=generator).to(like)
