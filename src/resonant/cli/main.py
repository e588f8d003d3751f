"""`resonant COMMAND ...`: one file a command, imported only when it is called.

Commands of one kind of data alone are those of its domain.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

from ..errors import UserError, nearest
from ..files import disk_error
from ..lab.domains import DOMAINS
from ..lab.kit.plugins import import_plugins, split_names
from ..version import VERSION
from .plugins import plugins_given

# By name: the module whose ``main`` is called, and a line of help; those of domains stand between.
FIRST = {
    "compare": (
        "resonant.cli.compare",
        "train arms of an experiment under several seeds; table and report",
    ),
    "train": ("resonant.cli.train", "train one arm under one seed"),
}
REST = {
    "check": ("resonant.cli.check", "certify any model: causality, padding, cache"),
    "diagnose": (
        "resonant.cli.diagnose",
        "where a trained model looks, what becomes of its tokens: pictures",
    ),
    "collapse": ("resonant.cli.collapse", "particles moved by attention alone: pictures"),
    "report": ("resonant.cli.report", "write the report of a comparison again"),
    "pack": ("resonant.cli.pack", "a comparison in one file, to keep or to send"),
    "bench": ("resonant.cli.bench", "time and memory beside fused SDPA"),
    "explain": (
        "resonant.cli.explain",
        "a mechanism in a page: equation, code, cost, when to use it",
    ),
    "list": ("resonant.cli.list", "what there is: experiments, arms, presets, data"),
}


# Which extra brings a package, by the name it is imported by.
EXTRA_OF = {
    **dict.fromkeys(("cloudpickle", "filelock", "jinja2", "jsonargparse", "jsonschema"), "lab"),
    **dict.fromkeys(
        ("matplotlib", "platformdirs", "pooch", "requests", "rich", "scipy", "yaml"), "lab"
    ),
    **dict.fromkeys(("PIL", "kornia", "sklearn"), "vision"),
    **dict.fromkeys(("espeakng_loader", "librosa", "soundfile"), "speech"),
    **dict.fromkeys(("huggingface_hub", "peft", "tokenizers", "transformers"), "llm"),
    "gguf": "smollm",
}


def commands() -> dict[str, tuple[str, str]]:
    """Gather the commands there are, those of plugins that are imported by now too.

    Raises ``UserError`` for a domain's command of a name that every kind of data has.
    """
    own = {name: command for domain in DOMAINS for name, command in domain.commands.items()}
    for name in own:
        if name in FIRST | REST:
            raise UserError(f"a plugin brings a command {name!r}, which is taken; rename it")
    return {**FIRST, **own, **REST}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for a user's error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is a question mark
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("--version", "-V"):
        print(f"resonant {VERSION}")
        return 0
    command, *rest = arguments
    try:
        if command not in commands():  # a plugin may bring it
            import_plugins(split_names(plugins_given(rest)))
        known = commands()
        if command not in known:
            raise UserError(f"no command is called {command!r}; {nearest(command, known)}")
        module = importlib.import_module(known[command][0])
        status = module.main(rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (UserError, OSError, KeyboardInterrupt, RuntimeError, ModuleNotFoundError) as error:
        said, status = _ending(error, command)
        if not said:
            raise
        print(f"resonant: {said}", file=sys.stderr)
        return status


def _ending(error: BaseException, command: str) -> tuple[str, int]:
    """Put an error into words, with the exit status; no words for a fault of ours."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command goes on from here", 130
    if isinstance(error, RuntimeError):
        return str(error), 1
    if isinstance(error, OSError):
        return str(disk_error(error)), 2
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        missing = f"`resonant {command}` needs the package {package}, which is not installed"
        move = f"pip install 'resonant[{EXTRA_OF.get(package)}]'"
        return (f"{missing}; {move}" if package in EXTRA_OF else ""), 2
    return str(error), 2


def _help() -> str:
    lines = [f"  {name:9} {says}" for name, (_, says) in commands().items()]
    return "\n".join(
        [
            "resonant: attention that synchronises, honestly compared",
            "",
            *lines,
            "",
            "resonant COMMAND --help tells the rest",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
