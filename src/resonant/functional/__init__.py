"""Pure functions of tensors: the mathematics. The notation is in README.md beside this file."""

from .attend import attend, attention_weights, record_paths
from .energy import PrefixSums, energy_gate, energy_log_gate, standardize_prefix
from .krause import krause_attention, krause_lift
from .kuramoto import coupling_lift, kuramoto_coupling, kuramoto_lift
from .lift import Documents, Lift, Pair
from .manifold import Circle, Manifold, SpecialOrthogonal, Sphere, Unitary, manifold
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
    "Circle",
    "Documents",
    "Full",
    "Lift",
    "Manifold",
    "Mechanism",
    "Neighborhood",
    "Pair",
    "PrefixSums",
    "Scalar",
    "SpecialOrthogonal",
    "Sphere",
    "Unitary",
    "attend",
    "attention_weights",
    "coupling_lift",
    "energy_gate",
    "energy_log_gate",
    "gaussian_locality",
    "krause_attention",
    "krause_lift",
    "kuramoto_coupling",
    "kuramoto_lift",
    "manifold",
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
