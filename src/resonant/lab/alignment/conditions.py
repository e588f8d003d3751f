"""Under which conditions alignments are tested. No torch here: reports read it too."""

from __future__ import annotations

from dataclasses import dataclass

TEMPI = (0.6, 0.8, 1.0, 1.25, 1.6)  # at which tests are made
LONG = "long"  # twice as long as the utterances of training
REAL = "real"  # recordings, by models of synthetic speech
ALIGNMENT = "alignment.npz"  # in a run's folder: what pictures of alignments need
PACES = (0.7, 1.4)  # at which models that keep time make frames on purpose
SHOWN = ("1", "0.6", "1.6", REAL)  # of which a picture is kept


@dataclass(frozen=True)
class Condition:
    """A test set: its name in metrics, its tempo, and twice the symbols or not.

    ``bend`` changes the tempo inside an utterance: "ramp" from 0.6 to 1 / 0.6, "rubato" up and down
    by 1.6 twice. ``motif`` repeats the first so many symbols; ``noise`` multiplies that of frames.
    ``trust`` is the share of their corrections that clocks which listen take.
    """

    name: str
    tempo: float = 1.0
    long: bool = False
    bend: str = ""
    motif: int = 0
    noise: float = 1.0
    trust: float = 1.0


AS_TRAINED = Condition("1")
CONDITIONS = (*(Condition(f"{tempo:g}", tempo) for tempo in TEMPI), Condition(LONG, long=True))
# Of made-up utterances, for models that go frame by frame.
HARD = (
    Condition("0.4", 0.4),
    Condition("2.5", 2.5),
    Condition("ramp", bend="ramp"),
    Condition("rubato", bend="rubato"),
    Condition("repeated", motif=3),
    Condition("noisy", noise=3.0),
)
ON_RECORDINGS = Condition(REAL)
WARY = Condition("real-half", trust=0.5)  # the same, half of each correction taken
