"""Experiments of the house on problems of one's own: none, as those are the user's."""

from ..kit.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = ()
