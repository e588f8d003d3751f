"""Modules of one's own: imported because they were asked for, never because a file names them."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import UserError, in_words
from .contents import described_run

INSTALLED = {"site-packages", "dist-packages"}  # folders of packages, in whichever environment
STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
PACKAGE = __name__.partition(".")[0]


def import_plugins(names: Sequence[str], *, never_from: Path | None = None) -> None:
    """Import a user's modules, which register mechanisms, gates or domains.

    They are looked for in the current folder last, and not at all if that is ``never_from`` or
    inside it: a stranger's folder.

    Raises ``UserError`` for one that cannot be imported, or raises when it is.
    """
    here = Path.cwd()
    inside = never_from is not None and here.resolve().is_relative_to(never_from.resolve())
    if names and not inside and str(here) not in sys.path:
        sys.path.append(str(here))
    for name in names:
        _refuse_inside(name, never_from)
        try:
            importlib.import_module(name)
        except (ImportError, ValueError) as error:
            where = "; it is not looked for in the run's own folder" if inside else ""
            raise UserError(
                f"cannot import the plugin {name!r} ({error}); plugins are module names on "
                f"Python's path, so run from the folder that holds it or install it{where}"
            ) from error
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            said = in_words(error) if isinstance(error, Exception) else "SystemExit"
            raise UserError(
                f"the plugin {name!r} raises {said} when it is imported; mend it, or leave it out "
                "of --plugins"
            ) from error


def _refuse_inside(name: str, folder: Path | None) -> None:
    """Raise ``UserError`` for a plugin that would come from ``folder``, however Python finds it."""
    path = None if folder is None else _file(name.partition(".")[0])
    if folder is not None and path is not None and path.is_relative_to(folder.resolve()):
        raise UserError(
            f"the plugin {name!r} lies in {folder}; it is not looked for in the run's own folder: "
            "look at it, then run from a folder of yours that holds it"
        )


def split_names(given: str | None) -> tuple[str, ...]:
    """Split names by comma, as ``--plugins`` takes them."""
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def import_plugins_of(directory: Path | None, given: str | None) -> None:
    """Import the modules that ``given`` names by comma, for the run in ``directory``.

    Raises ``UserError`` for one that cannot be imported, and for plugins that the run names and
    ``given`` does not: they are code.
    """
    names = split_names(given)
    own = () if directory is None else described_run(directory).get("plugins") or ()
    ours = [name for name in own if is_ours(name)]
    missing = [name for name in own if name not in names and name not in ours]
    if missing:
        raise UserError(
            f"{directory} was made with the plugins {', '.join(missing)}, which are code; look at "
            f"them, then pass --plugins {','.join([*names, *missing])}"
        )
    import_plugins((*ours, *names), never_from=directory)


def is_ours(name: str) -> bool:
    """Tell whether a plugin is a module of this package, which its version says all about."""
    return name.partition(".")[0] == PACKAGE


def digest_of_plugins(names: Sequence[str]) -> str:
    """Hash the sources of plugins, and of what they import that is not installed; "" for none.

    Modules of this package are left out: its version says what they are.
    """
    files = sources(names)
    if not files:
        return ""
    found = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        found.update(f"{name}\n{len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def sources(names: Sequence[str]) -> dict[str, Path]:
    """Files of modules of one's own and of what they import, by their names.

    What is installed, and this package, are left out: versions say what they are.
    """
    files: dict[str, Path] = {}
    for name in names:
        if not is_ours(name):
            _gather(name, files)
    return files


def is_installed(path: Path) -> bool:
    """Tell whether a file belongs to Python itself or to an installed package."""
    return bool(INSTALLED & {*path.parts}) or path.is_relative_to(STANDARD)


def is_local(name: str) -> bool:
    """Tell whether a module is one's own: neither of this package nor installed."""
    try:
        found = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, AttributeError, ValueError):
        return False
    if found is None or is_ours(name):
        return False
    within = list(found.submodule_search_locations or ())
    places = [found.origin] if (found.origin or "").endswith(".py") else within
    return any(not is_installed(Path(place).resolve()) for place in places if place)


def check_plugins(names: Sequence[str], planned: str) -> None:
    """Raise ``UserError`` if plugins are not those that a run was planned with."""
    now = digest_of_plugins(names)
    if planned != now:
        raise UserError(
            f"the plugins {', '.join(names)} changed since this run was planned (hash {now[:12]}, "
            f"planned {planned[:12]}); run the comparison anew"
        )


def _file(name: str) -> Path | None:
    """The source of a module; None for one that has none or is not there."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return Path(found.origin).resolve()


def _gather(name: str, files: dict[str, Path]) -> None:
    """Add the source of ``name`` and, in turn, of what it imports that is not installed."""
    if name in files or not is_local(name):
        return
    path = _file(name)
    if path is None or is_installed(path):
        return
    files[name] = path
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for imported in _imports(path, package):
        names = imported.split(".")  # a module, or a name in one, and the packages it is in
        for count in range(len(names), 0, -1):
            each = ".".join(names[:count])
            if each and not is_ours(each):
                _gather(each, files)


def _imports(path: Path, package: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
