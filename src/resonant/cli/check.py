"""`resonant check`: a certificate for any model, by the name of a module, a factory or a folder."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError, check_seed, in_words, nearest
from ..files import write_atomically

EPILOG = """\
MODEL is one of
  package.module:name   a torch module, or a function without arguments that makes one; it may
  path/to/file.py:name  also return (model, inputs), the tensor to call it with
  FOLDER                a language model of ours (a run, or written by save_pretrained), or one
                        of transformers, with or without adapters

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
    model, inputs = _load(options.model)
    known: dict[str, Any] = {"mask_argument": options.mask_argument}
    known["mask_means"] = options.mask_means
    if options.layout is not None or inputs is not None:
        known["sequence_axis"] = 0 if options.layout == "sequence-first" else 1
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
        certificate = certify(subject, checks, tolerance=options.tolerance)
    except ValueError as error:
        hint = "; see --vocabulary, --width, --length and --layout" if inputs is None else ""
        raise UserError(str(error) + hint) from error
    print(certificate)
    if options.out is not None:
        content = json.dumps(dataclasses.asdict(certificate), indent=2) + "\n"
        write_atomically(Path(options.out), content.encode(), "certificate")
    return 0 if certificate.holds else 1


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


def _load(name: str) -> tuple[Any, Any]:
    """The model that ``name`` stands for, and inputs if it brings any."""
    if Path(name).is_dir():
        from ..integrations.opening import is_foreign, open_causal
        from ..models.architectures import load_model
        from ..models.base import CausalModel

        if is_foreign(Path(name)):
            model = open_causal(name)[0]
            # PEFT's shell names no arguments; what it wraps has the adapters in it.
            return (model.get_base_model() if hasattr(model, "peft_config") else model), None
        try:
            model = load_model(name)
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from error
        if not isinstance(model, CausalModel):
            raise UserError(
                f"{name} holds a model of architecture {model.config.architecture!r}, which is not "
                "causal by design; checks are for models of tokens and of pixels"
            )
        return model, None
    where, _, attribute = name.rpartition(":")
    if not where:
        raise UserError(
            f"{name!r} names no model; give package.module:name, file.py:name or a folder"
        )
    module = _module(where)
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"{where} has no {attribute!r}; {nearest(attribute, public)}")
    return _build(getattr(module, attribute), name)


def _module(where: str) -> Any:
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        if not Path(where).is_file():
            raise UserError(f"there is no file {where}")
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(spec.name, module)
        sys.path.insert(0, str(Path(where).resolve().parent))
        spec.loader.exec_module(module)
        return module
    except ImportError as error:
        raise UserError(
            f"cannot import {where!r} ({error}); run from the folder that holds it, or install it"
        ) from error
    except UserError:
        raise
    except Exception as error:  # a stranger's module may raise anything
        raise UserError(f"importing {where!r} raises {in_words(error)}") from error


def _build(made: Any, name: str) -> tuple[Any, Any]:
    from torch import Tensor, nn

    if not isinstance(made, nn.Module):
        if not callable(made):
            raise UserError(f"{name} is a {type(made).__name__}, neither a model nor a function")
        try:
            inspect.signature(made).bind()
        except TypeError as error:
            raise UserError(
                f"{name} cannot be called without arguments ({error}); write a function that "
                "returns the model"
            ) from error
        try:
            made = made()
        except Exception as error:  # a stranger's factory may raise anything
            raise UserError(f"building {name} raises {in_words(error)}") from error
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not callable(model) or not (inputs is None or isinstance(inputs, Tensor)):
        raise UserError(
            f"{name} gives {type(made).__name__}; return a model, or (model, inputs) with a tensor"
        )
    return model, inputs
