"""`resonant COMMAND ...`: one file a command, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

from ..errors import UserError, nearest
from ..files import disk_error

COMMANDS = {
    "compare": "train arms of an experiment under several seeds; table and report",
    "train": "train one arm under one seed",
    "sample": "text from a trained model",
    "speak": "sound from a trained model of speech",
    "draw": "pictures from a trained model of pixels",
    "check": "certify any model: causality, padding, cache",
    "diagnose": "where a trained model looks, what becomes of its tokens: pictures",
    "collapse": "particles moved by attention alone: pictures",
    "report": "write the report of a comparison again",
    "bench": "time and memory beside fused SDPA",
    "explain": "a mechanism in a page: equation, code, cost, when to use it",
    "list": "what there is: experiments, arms, presets, data",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for a user's error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    command, *rest = arguments
    try:
        if command not in COMMANDS:
            raise UserError(f"no command is called {command!r}; {nearest(command, COMMANDS)}")
        module = importlib.import_module(f"resonant.cli.{command}")
        return module.main(rest)
    except UserError as error:
        print(f"resonant: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"resonant: {disk_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("resonant: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"resonant: {error}", file=sys.stderr)
        return 1


def _help() -> str:
    lines = [f"  {name:9} {says}" for name, says in COMMANDS.items()]
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
