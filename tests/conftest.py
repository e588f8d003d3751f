"""Shapes and types of the whole library are checked at run time in every test."""

from jaxtyping import install_import_hook

install_import_hook("resonant", "beartype.beartype")

import torch  # noqa: E402 (the hook comes first)

torch.set_num_threads(1)  # tests run side by side
