"""`resonant list`: experiments with their arms, model presets, data."""

from __future__ import annotations

from ..experiments import EXPERIMENTS
from ..models.configs import PRESETS
from ..models.frame_configs import SPEECH_PRESETS


def main(arguments: list[str]) -> int:
    """Print what can be named on the command line."""
    if arguments:
        print("usage: resonant list\n\nWhat there is: experiments and arms, presets, data.")
        return 0 if arguments[0] in ("-h", "--help") else 2
    print("experiments (resonant compare NAME)")
    for experiment in EXPERIMENTS.values():
        print(f"  {experiment.name:12} {experiment.says}")
        for arm in experiment.arms:
            against = f" (against {arm.control})" if arm.control else ""
            print(f"    {arm.name:20} {arm.says}{against}")
    print("\npresets (resonant.language_model(NAME))")
    for name, build in PRESETS.items():
        says = (build.__doc__ or "").strip().splitlines()[0]
        print(f"  {name:8} {says}")
    for name, speech in SPEECH_PRESETS.items():
        says = (speech.__doc__ or "").strip().splitlines()[0]
        print(f"  {name:8} {says} (resonant.speech_transformer(NAME))")
    print("\ndata (--data.name NAME): stdlib, shakespeare, file (with --data.path TEXT)")
    print("symbols, made up, are the data of align (--data.longest N and so on)")
    print("espeak, ljspeech, ljspeech-sample, recordings are those of speech")
    return 0
