"""Pure functions of tensors: the mathematics. The notation is in README.md beside this file."""

from ..mechanism import Mechanism, Scalar, mechanism, mechanisms, register
from .alignment import (
    durations,
    forward_posterior,
    guided_attention_loss,
    mixture_lift,
    monotonic_alignment_search,
)
from .attend import attend, attention_weights, record_paths
from .clock import Clock, clock, clock_attention, clock_lift
from .energy import PrefixSums, energy_gate, energy_log_gate, standardize_prefix
from .filter import ClockState, FilteredClock, clock_filter, filter_lift
from .krause import krause_attention, krause_lift
from .kuramoto import coupling_lift, kuramoto_coupling, kuramoto_lift
from .lift import Documents, Lift
from .linear import linear_attention
from .manifold import Circle, Manifold, SpecialOrthogonal, Sphere, Unitary, manifold
from .neighborhood import Band, Causal, Full, Grid, Neighborhood
from .pair import Gaussian, Interval, Meeting, Pair
from .position import (
    gaussian_locality,
    morlet_constraints,
    morlet_encoding,
    oscillate,
    oscillator_frequencies,
    rotary_frequencies,
    rotate,
    sinusoidal_encoding,
)
from .softmax import sink_lift, softmax_attention, softmax_lift

__all__ = [
    "Band",
    "Causal",
    "Circle",
    "Clock",
    "ClockState",
    "Documents",
    "FilteredClock",
    "Full",
    "Gaussian",
    "Grid",
    "Interval",
    "Lift",
    "Manifold",
    "Mechanism",
    "Meeting",
    "Neighborhood",
    "Pair",
    "PrefixSums",
    "Scalar",
    "SpecialOrthogonal",
    "Sphere",
    "Unitary",
    "attend",
    "attention_weights",
    "clock",
    "clock_attention",
    "clock_filter",
    "clock_lift",
    "coupling_lift",
    "durations",
    "energy_gate",
    "energy_log_gate",
    "filter_lift",
    "forward_posterior",
    "gaussian_locality",
    "guided_attention_loss",
    "krause_attention",
    "krause_lift",
    "kuramoto_coupling",
    "kuramoto_lift",
    "linear_attention",
    "manifold",
    "mechanism",
    "mechanisms",
    "mixture_lift",
    "monotonic_alignment_search",
    "morlet_constraints",
    "morlet_encoding",
    "oscillate",
    "oscillator_frequencies",
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
