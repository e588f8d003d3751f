"""`resonant speak RUN TEXT`: sound from a trained model of speech."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import WEIGHTS, write_atomically
from ..kit.contents import INTEGER, NUMBER, TEXT, list_of, read_held, record
from ..kit.folder import require
from .config import SCALES

# What the file of scales must hold.
HELD = record(
    {
        "voices": list_of(TEXT, least=1),
        "symbols": list_of(TEXT, least=1),
        "mean": list_of(NUMBER, least=1),
        "spread": list_of(NUMBER, least=1),
        "hop": INTEGER,
    }
)
ACCENT = "en-us"  # in which texts are pronounced for voices that are not eSpeak NG's


def main(arguments: list[str]) -> int:
    """Write a WAV file, and say what was spoken."""
    options = make_parser().parse_args(arguments)
    directory = Path(options.run)
    for name in (WEIGHTS, SCALES):
        move = "give the folder of a finished run of speech, as in runs/speech/clock-seed0"
        require(directory, name, move)
    import numpy as np
    import torch

    from ...models.speech import SpeechTransformer
    from .espeak import SAMPLE_RATE
    from .mel import sound, wav_bytes

    said = read_held(directory / SCALES, HELD)
    voice = options.voice or said["voices"][0]
    if voice not in said["voices"]:
        raise UserError(f"the model has no voice {voice!r}; it has {', '.join(said['voices'])}")
    symbols = torch.from_numpy(_symbols(options.text, voice, said))
    try:
        model = SpeechTransformer.from_pretrained(directory)
        voices = torch.tensor([said["voices"].index(voice)])
        made, _ = model.speak(symbols.unsqueeze(0), voices, tempo=options.tempo)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    mel = made[0].numpy() * np.array(said["spread"]) + np.array(said["mean"])
    samples = sound(mel, hop=said["hop"])
    target = Path(options.out or "speech.wav")
    write_atomically(target, wav_bytes(samples), "sound")
    spoken = " ".join(said["symbols"][i - 1] for i in symbols.tolist())
    print(f"{spoken}\n{len(samples) / SAMPLE_RATE:.2f} s: {target}")
    return 0


def _symbols(text: str, voice: str, said: dict[str, Any]) -> Any:
    """Ids of the phonemes that eSpeak NG gives the text; its sound is thrown away."""
    from .config import RECORDED
    from .corpus import UNKNOWN, phoneme_ids
    from .espeak import PAUSE, Job, speak
    from .recordings import plainer

    accent = ACCENT if voice in RECORDED else voice
    known, spoken = said["symbols"], []
    for phoneme in speak(Job(text, accent)).phonemes:
        heard = phoneme_ids([phoneme], known)[0] != UNKNOWN
        spoken += [phoneme] if heard else plainer(phoneme)
    ids = phoneme_ids(spoken, known)
    unknown = [phoneme for phoneme, i in zip(spoken, ids, strict=True) if i == UNKNOWN]
    unheard = [phoneme for phoneme in unknown if phoneme != PAUSE]
    if unheard:
        raise UserError(
            f"the model never heard the phoneme {unheard[0]!r} of {' '.join(spoken)}; use other "
            f"words, with phonemes among {' '.join(known)}"
        )
    return ids[ids != UNKNOWN]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant speak",
        description="A WAV file of a text from a trained model of speech. eSpeak NG says what its "
        "phonemes are, the model how long they last and how they sound.",
    )
    parser.add_argument("run", help="folder of a run, such as runs/speech/clock-seed0")
    parser.add_argument("text", help="what to say, a short phrase like those of training")
    parser.add_argument("--voice", help="one of the model's (its first)")
    parser.add_argument("--tempo", type=float, default=1.0, help="0.5 is half as fast (1)")
    parser.add_argument("--out", help="the file (speech.wav)")
    return parser
