"""What is measured against what, its limit and its aim.

Ratios of CPU time, forward and backward, float32, 2 threads, median of 7 interleaved rounds; peak
memory in fresh processes. Timings are noisy: a row just over its limit deserves a second run.
"""

from __future__ import annotations

from dataclasses import dataclass

from .cases import CASES
from .measure import interleaved, peak_of


@dataclass(frozen=True)
class Row:
    """A ratio of one case over another: its limit and its aim."""

    says: str
    over: str
    under: str
    limit: float
    aim: float
    memory: bool = False

    def verdict(self, measured: float) -> str:
        """MISSED, met, or aim met."""
        return "MISSED" if measured > self.limit else "met" if measured > self.aim else "aim met"


TIME_ROWS = (
    Row("energy gate over fused causal SDPA, B4 T1024", "gate-1024", "sdpa-1024", 1.5, 1.15),
    Row(
        "energy gate over its materialized form, T4096",
        "gate-4096",
        "gate-4096-materialized",
        0.2,
        0.2,
    ),
    Row("decode by a window, context 8192 over 256", "decode-8192", "decode-256", 1.3, 1.05),
    Row("Gaussian locality over fused SDPA, B4 T1024", "locality-1024", "sdpa-1024", 2.5, 1.5),
    Row("Gaussian locality: T16384 over T4096", "locality-16384", "locality-4096", 6.0, 4.1),
    Row("oscillators over fused SDPA, B4 T1024", "oscillators-1024", "sdpa-1024", 1.4, 1.2),
    Row("oscillators, 48 + 16 features, over SDPA", "oscillators-48-1024", "sdpa-1024", 1.2, 1.05),
    Row("Kuramoto over fused causal SDPA, B4 T1024", "kuramoto-1024", "sdpa-1024", 2.5, 2.0),
    Row(
        "Kuramoto over its materialized form, T4096",
        "kuramoto-4096",
        "kuramoto-4096-materialized",
        0.333,
        0.2,
    ),
    Row(
        "clocks over their materialized form, T4096",
        "clocks-4096",
        "clocks-4096-materialized",
        0.333,
        0.05,
    ),
    Row("clocks: T16384 over T4096", "clocks-16384", "clocks-4096", 4.8, 4.1),
    Row("clocks that listen over running, 100 frames", "listening-100", "running-100", 2.0, 1.5),
    Row("phase model over transformer, a step, 0.36M", "phases-0.36M", "matched-0.36M", 1.5, 1.2),
    Row("phase model over transformer, a step, 0.8M", "phases-0.8M", "matched-0.8M", 1.5, 1.2),
    Row("Krause over fused causal SDPA, B4 T1024", "krause-1024", "sdpa-1024", 1.5, 1.15),
    Row("Krause window 128, top-k 96 over SDPA, T4096", "topk-4096", "sdpa-4096", 0.8, 0.55),
    Row("Krause window 128 over SDPA, T4096", "window-4096", "sdpa-4096", 0.35, 0.22),
    Row(
        "Krause window 64 with the causal mask over without, T2048",
        "window64-2048-masked",
        "window64-2048",
        1.1,
        1.05,
    ),
    Row("Krause window 128, top-k 96: T16384 over T4096", "topk-16384", "topk-4096", 4.8, 4.1),
    Row("Krause window 128: T16384 over T4096", "window-16384", "window-4096", 4.8, 4.1),
    Row(
        "Krause window 128 and 4 first keys over window 128, T4096",
        "first-4096",
        "window-4096",
        1.3,
        1.1,
    ),
    Row(
        "Krause window 128 and 4 first keys: T16384 over T4096",
        "first-16384",
        "first-4096",
        4.8,
        4.1,
    ),
    Row(
        "a Llama's token, 252 keys and 4 first, context 4096 over 256",
        "llama-window-4096",
        "llama-window-256",
        1.2,
        1.05,
    ),
    Row(
        "a Llama's token, 252 keys and 4 first over all, context 4096",
        "llama-window-4096",
        "llama-4096",
        1.0,
        0.8,
    ),
    Row(
        "a Llama's token, the same with Krause over all, context 4096",
        "llama-krause-4096",
        "llama-4096",
        1.0,
        0.8,
    ),
    Row(
        "Krause over its materialized form, T4096",
        "krause-4096",
        "krause-4096-materialized",
        0.2,
        0.2,
    ),
    Row("language model step over plain PyTorch, 0.8M", "model", "plain-model", 1.15, 1.0),
)
MEMORY_ROWS = (
    Row(
        "Gaussian locality: T16384 over T4096",
        "locality-16384",
        "locality-4096",
        4.8,
        4.1,
        memory=True,
    ),
    Row(
        "clocks over their materialized form, T4096",
        "clocks-4096",
        "clocks-4096-materialized",
        0.1,
        0.1,
        memory=True,
    ),
    Row(
        "clocks that listen: 4,000 frames over 1,000",
        "listening-4000",
        "listening-1000",
        4.8,
        4.1,
        memory=True,
    ),
    Row(
        "Kuramoto over its materialized form, T4096",
        "kuramoto-4096",
        "kuramoto-4096-materialized",
        0.1,
        0.1,
        memory=True,
    ),
    Row(
        "energy gate over its materialized form, T4096",
        "gate-4096",
        "gate-4096-materialized",
        0.1,
        0.1,
        memory=True,
    ),
    Row(
        "Krause window 128, top-k 96: T16384 over T4096",
        "topk-16384",
        "topk-4096",
        4.8,
        4.1,
        memory=True,
    ),
    Row(
        "Krause window 128: T16384 over T4096", "window-16384", "window-4096", 4.8, 4.1, memory=True
    ),
    Row(
        "Krause window 128 and 4 first keys: T16384 over T4096",
        "first-16384",
        "first-4096",
        4.8,
        4.1,
        memory=True,
    ),
    Row(
        "Krause over its materialized form, T4096",
        "krause-4096",
        "krause-4096-materialized",
        0.1,
        0.1,
        memory=True,
    ),
)


def measure(row: Row) -> float:
    """The row's ratio."""
    if row.memory:
        return peak_of(row.over) / peak_of(row.under)
    seconds = interleaved({name: CASES[name]() for name in (row.over, row.under)})
    return seconds[row.over] / seconds[row.under]


ROWS = TIME_ROWS + MEMORY_ROWS
