"""Read-only measurements of models at work."""

from .alignment import AlignmentScores, along_path, measure_alignment, record_clocks
from .attention import (
    AttentionRecord,
    LayerRecord,
    attention_layers,
    effective_rank,
    key_clusters,
    record_attention,
    token_cosine,
)
from .collapse import Collapse, clusters, collapse, residual
from .phases import PhaseRecord, has_phases, record_phases
from .summary import summarize, summarize_record
from .worth import LayerWorth, Worth, attention_worth, without_attention

__all__ = [
    "AlignmentScores",
    "AttentionRecord",
    "Collapse",
    "LayerRecord",
    "LayerWorth",
    "PhaseRecord",
    "Worth",
    "along_path",
    "attention_layers",
    "attention_worth",
    "clusters",
    "collapse",
    "effective_rank",
    "has_phases",
    "key_clusters",
    "measure_alignment",
    "record_attention",
    "record_clocks",
    "record_phases",
    "residual",
    "summarize",
    "summarize_record",
    "token_cosine",
    "without_attention",
]
