"""What a report keeps of a model at work: small arrays, readable without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .attention import AttentionRecord, record_attention
from .phases import has_phases, record_phases

SHOWN = 64  # tokens of the first row whose weights and gates are kept


@torch.no_grad()
def summarize(model: nn.Module, inputs: Tensor, **options: Any) -> dict[str, np.ndarray]:
    """``record_attention`` of ``inputs`` (batch, token) as arrays by name (``summarize_record``).

    With phases ``order`` (state, head) besides, the order parameter.

    Raises ``ValueError`` as ``record_attention`` does, and for layers of several shapes.
    """
    found = summarize_record(record_attention(model, inputs, **options))
    if not has_phases(model):
        return found
    try:
        phases = record_phases(model, inputs, **options)
    except ValueError:  # couplings of several kinds
        return found
    return found | {"order": phases.order().mean(1).numpy()}


@torch.no_grad()
def summarize_record(record: AttentionRecord) -> dict[str, np.ndarray]:
    """A record as arrays by name.

    ``layers`` names (layer); ``weights`` (layer, head, token, token) of the first tokens of the
    first row; ``entropy``, ``sink``, ``own`` (layer, head); ``sink_share``, ``uniform_sink``,
    ``residual``, ``clusters``, ``token_cosine``, ``effective_rank`` (layer). Where all layers are
    Krause's ``key_clusters`` (layer, head), a mean over rows. With energy gates ``gated`` names,
    ``gates`` (gated, head, token) and ``gates_shut``, the share below 0.1 (gated).

    Raises ``ValueError`` for layers of several shapes.
    """
    if len({layer.weights.shape for layer in record.layers}) > 1:
        raise ValueError(
            "the model's attention layers differ in heads or keys, so they make no one summary; "
            "use record_attention"
        )
    measures = [layer.measures() for layer in record.layers]
    found = {name: np.array([each[name] for each in measures]) for name in measures[0]}
    layers = record.layers
    found["layers"] = np.array([layer.name for layer in layers])
    shown = [layer.weights[0, :, :SHOWN, :SHOWN].half().numpy() for layer in layers]
    found["weights"] = np.stack(shown)
    found["entropy"] = np.stack([layer.entropy().numpy() for layer in layers])
    found["own"] = np.stack([layer.own().numpy() for layer in layers])
    found["sink"] = np.stack([layer.sink().numpy() for layer in layers])
    found["sink_share"] = np.array([layer.sink_share() for layer in layers])
    found["uniform_sink"] = np.array([layer.uniform_sink() for layer in layers])
    grouped = [layer.key_clusters for layer in layers if layer.key_clusters is not None]
    if len(grouped) == len(layers):
        found["key_clusters"] = torch.stack(grouped).double().mean(1).numpy()
    gated = [layer for layer in layers if layer.gate is not None]
    if gated:
        found["gated"] = np.array([layer.name for layer in gated])
        gates = [layer.gate[0, :, :SHOWN].numpy() for layer in gated if layer.gate is not None]
        found["gates"] = np.stack(gates)
        shares = [(layer.gate < 0.1).float().mean() for layer in gated if layer.gate is not None]
        found["gates_shut"] = np.array([float(share) for share in shares])
    return found
