"""How a stranger's model is called: its inputs, its output, its mask, its cache."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# Names under which models take a padding mask, and what True or 1 means there.
MASKS = {
    "key_padding_mask": "padding",
    "src_key_padding_mask": "padding",
    "padding_mask": "padding",
    "attention_mask": "real",
}
LENGTHS = (29, 31, 37, 41, 43)  # unlike the sizes of most layers, so that an axis can be told


@dataclass(frozen=True)
class Subject:
    """A model, an input to call it with, and how.

    ``model`` is called as ``model(inputs, **options)``. ``inputs`` are token ids (batch, sequence)
    or features (batch, sequence, width), or with the sequence first if ``sequence_axis`` is 0. The
    output, or its first tensor, ``.logits`` or ``.last_hidden_state``, has the sequence on the same
    axis. ``mask_argument`` is the name of the padding mask among the arguments of ``forward``
    (found by its usual names if None), ``mask_means`` what True says there: "padding" or "real".

    Raises ``ValueError`` for inputs of other shapes, or too short to cut.
    """

    model: Callable[..., Any]
    inputs: Tensor
    options: Mapping[str, Any] = field(default_factory=dict)
    sequence_axis: int = 1
    mask_argument: str | None = None
    mask_means: str | None = None

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

    @property
    def length(self) -> int:
        """Tokens of the input."""
        return self.inputs.shape[self.sequence_axis]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The arguments that the model's ``forward`` names."""
        forward = self.model.forward if isinstance(self.model, nn.Module) else self.model
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
        if name == "attention_mask":  # transformers counts: 1 = a token
            return {name: real.long()}
        return {name: real if means == "real" else ~real}

    def rows(self, x: Tensor) -> Tensor:
        """A tensor with batch first and the sequence second, or back again."""
        return x if self.sequence_axis == 1 else x.transpose(0, 1)

    def call(self, rows: Tensor, **more: Any) -> Tensor:
        """The output for inputs with batch first: (batch, sequence, ...)."""
        return self.read(self.model(self.rows(rows), **{**self.options, **more}), rows)

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


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation without gradients; the mode of every module is restored."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def rounding(dtype: torch.dtype) -> float:
    """The largest relative difference that other shapes may cause by rounding alone."""
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 3e-2)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference; infinite where one is not a number and the other is."""
    if ours.numel() == 0 or torch.equal(ours, theirs):
        return 0.0
    apart = (ours.double() - theirs.double()).abs()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    return apart.masked_fill(same, 0.0).nan_to_num(float("inf"), float("inf")).max().item()


def guess_subject(
    model: Any, *, length: int | None = None, batch: int = 3, seed: int = 0, **known: Any
) -> Subject:
    """A subject with inputs that the model takes, found by trying.

    Token ids if the model has an embedding, else features as wide as its first layers; the sequence
    first if one of its modules says ``batch_first=False``. ``known`` are fields of ``Subject``, and
    ``vocabulary`` or ``width``, which decide the kind.

    Raises ``ValueError`` when no guess is taken, with the model's last words.
    """
    vocabulary, width = known.pop("vocabulary", None), known.pop("width", None)
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    if "sequence_axis" not in known:
        late = any(getattr(m, "batch_first", True) is False for m in modules)
        known["sequence_axis"] = 0 if late else 1
    sizes = {size for m in modules for p in m.parameters(recurse=False) for size in p.shape}
    length = length or next((n for n in LENGTHS if n not in sizes), LENGTHS[0])
    last = "it has no layers to guess from"
    dtype = next((p.dtype for m in modules for p in m.parameters()), torch.float32)
    for kind, size in _guesses(modules, vocabulary, width):
        inputs = _draw(kind, size, (batch, length), dtype=dtype, seed=seed)
        try:
            subject = Subject(model, inputs.movedim(1, known["sequence_axis"]), **known)
            with evaluating(model):
                subject.call(subject.rows(subject.inputs))
            return subject
        except Exception as error:  # a stranger's model may raise anything
            last = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise ValueError(
        f"cannot guess what the model takes ({last}); give inputs, or vocabulary (for token ids) "
        "or width (for features)"
    )


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


def _draw(kind: str, size: int, shape: tuple[int, int], *, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "tokens":
        return torch.randint(0, size, shape, generator=generator)
    return torch.randn(*shape, size, generator=generator).to(dtype)
