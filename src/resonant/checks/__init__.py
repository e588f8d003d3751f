"""Certificates for anyone's model: the future stays out, padding too, and a cache decodes alike.

Works on any module, ours or not, that maps a sequence to a sequence of the same length.
"""

from .cache import check_cache
from .calls import Subject, guess_subject
from .causality import check_causality
from .certificate import CHECKS, Certificate, certify
from .padding import check_padding
from .verdict import Verdict

__all__ = [
    "CHECKS",
    "Certificate",
    "Subject",
    "Verdict",
    "certify",
    "check_cache",
    "check_causality",
    "check_padding",
    "guess_subject",
]
