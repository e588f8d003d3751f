"""Pure functions of tensors: the mathematics. The notation is in README.md beside this file."""

from .attend import attend, attention_weights, record_paths
from .krause import krause_attention, krause_lift
from .lift import Lift
from .mechanism import Mechanism, Scalar, mechanism, mechanisms, register
from .neighborhood import Band, Causal, Full, Neighborhood
from .position import rotary_frequencies, rotate
from .softmax import softmax_attention, softmax_lift

__all__ = [
    "Band",
    "Causal",
    "Full",
    "Lift",
    "Mechanism",
    "Neighborhood",
    "Scalar",
    "attend",
    "attention_weights",
    "krause_attention",
    "krause_lift",
    "mechanism",
    "mechanisms",
    "record_paths",
    "register",
    "rotary_frequencies",
    "rotate",
    "softmax_attention",
    "softmax_lift",
]
