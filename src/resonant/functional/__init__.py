"""Pure functions of tensors: the mathematics. The notation is in README.md beside this file."""

from .attend import attend, attention_weights, record_paths
from .energy import PrefixSums, energy_gate, energy_log_gate, standardize_prefix
from .krause import krause_attention, krause_lift
from .lift import Documents, Lift, Pair
from .mechanism import Mechanism, Scalar, mechanism, mechanisms, register
from .neighborhood import Band, Causal, Full, Neighborhood
from .position import (
    gaussian_locality,
    morlet_constraints,
    morlet_encoding,
    rotary_frequencies,
    rotate,
    sinusoidal_encoding,
)
from .softmax import sink_lift, softmax_attention, softmax_lift

__all__ = [
    "Band",
    "Causal",
    "Documents",
    "Full",
    "Lift",
    "Mechanism",
    "Neighborhood",
    "Pair",
    "PrefixSums",
    "Scalar",
    "attend",
    "attention_weights",
    "energy_gate",
    "energy_log_gate",
    "gaussian_locality",
    "krause_attention",
    "krause_lift",
    "mechanism",
    "mechanisms",
    "morlet_constraints",
    "morlet_encoding",
    "record_paths",
    "register",
    "rotary_frequencies",
    "rotate",
    "sink_lift",
    "sinusoidal_encoding",
    "softmax_attention",
    "softmax_lift",
    "standardize_prefix",
]
