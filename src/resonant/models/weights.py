"""Weights on disk as safetensors, with a checksum of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..files import write_atomically

CHECKSUM = "sha256"  # in the file's metadata: of all tensors, by name


def save_weights(path: Path, tensors: Mapping[str, Tensor], label: str) -> None:
    """Write ``tensors`` by name, and a checksum of them into the file's metadata."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = save(whole, metadata={CHECKSUM: digest(whole)})
    write_atomically(path, content, label)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name.

    Raises ``ValueError`` for a file that is missing or damaged, be it by one bit. Files of others,
    which have no checksum of ours, are taken as they are.
    """
    try:
        with safe_open(path, "pt") as opened:
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            said = (opened.metadata() or {}).get(CHECKSUM)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); save the model again") from error
    if said is not None and said != digest(found):
        raise ValueError(
            f"{path} is damaged (its checksum does not fit its content); save the model again"
        )
    return found


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors, their names, types and shapes, by SHA-256."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
