"""`resonant list`: experiments with their arms, model presets, data."""

from __future__ import annotations

from collections.abc import Mapping

from ..experiments import EXPERIMENTS
from ..models.configs import PRESETS, LanguageModelConfig
from ..models.costs import token_cost
from ..models.frame_configs import SPEECH_PRESETS
from ..models.pixel_configs import PIXEL_PRESETS
from ..models.vision_configs import SWIN_PRESETS, VISION_PRESETS

CONTEXT = 2048  # at which presets are counted


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
        print(f"  {name:12} {says}")
        print(f"  {'':12} {_cost(build())}")
    others: dict[str, Mapping[str, object]] = {
        "speech_transformer": SPEECH_PRESETS,
        "vision_transformer": VISION_PRESETS,
        "swin_transformer": SWIN_PRESETS,
        "pixel_model": PIXEL_PRESETS,
    }
    for function, presets in others.items():
        for name, make in presets.items():
            says = (make.__doc__ or "").strip().splitlines()[0]
            print(f"  {name:10} {says} (resonant.{function}(NAME))")
    print("\ndata (--data.name NAME): stdlib, shakespeare, file (with --data.path TEXT)")
    print("symbols, made up, are the data of align (--data.longest N and so on)")
    print("digits, mnist, cifar10, cifar10-subset, imagenet (your folder) are pictures")
    print("stdlib-docs, jsonl (yours, with --data.path LINES) are those of the -lora experiments")
    print("espeak, ljspeech, ljspeech-sample, recordings are those of speech")
    return 0


def _cost(config: LanguageModelConfig) -> str:
    """What a preset costs, on a line."""
    cost = token_cost(config, CONTEXT)
    return (
        f"{cost.parameters / 1e6:.2f}M parameters; at {CONTEXT} tokens "
        f"{cost.training_flops / 1e6:,.1f} MFLOPs a token in training, "
        f"{cost.decoding_flops / 1e6:,.1f} in decoding, {cost.cache_bytes / 1e6:,.2f} MB of cache"
    )
