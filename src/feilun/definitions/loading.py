"""Imports a file of definitions, and says what is wrong with it without a traceback."""

from __future__ import annotations

import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType

from feilun.definitions.compiler import compile_project
from feilun.definitions.problems import nearest
from feilun.definitions.sites import Site
from feilun.definitions.specs import Project
from feilun.errors import DefinitionError, Problem

_numbers = count(1)


def load_project(path: Path) -> Project:
    """Import one file and compile what it defines.

    The file is run anew each time, as a module of a name of its own; its folder can be imported
    from, after everything else. If it fails, ``sys.modules`` and ``sys.path`` are as before.

    Raises
    ------
    DefinitionError
        If it is not there or does not run (``file:line`` and what Python says), or if what it
        defines is wrong.
    """
    path = path.resolve()
    if not path.is_file():
        raise _wrong(str(path), "there is no such file.", "Check [project] module in feilun.toml.")
    before = set(sys.modules)
    paths = list(sys.path)
    # Last, so that a file of the user's replaces nothing that Feilun or Python imports later.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        return compile_project(_run(path), name=path.stem)
    except BaseException:
        sys.path[:] = paths
        for name in set(sys.modules) - before:
            if _is_under(sys.modules[name], path.parent):
                del sys.modules[name]
        raise


def _run(path: Path) -> ModuleType:
    spec = spec_from_file_location(f"feilun_project_{next(_numbers)}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise _wrong(str(path), "it is not a Python file.", "Name a file that ends in .py.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and typing look the module up by its name
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except SyntaxError as error:
        where = Site(error.filename or str(path), error.lineno or 0)
        raise _wrong(str(where), f"{error.msg}.", "Mend the syntax.") from error
    except (Exception, SystemExit) as error:  # the user's code: anything may come
        where = _last_line_under(path.parent, error) or Site(str(path), 0)
        said = f"{type(error).__name__}: {error}".rstrip(".")
        raise _wrong(str(where), f"{said}.", _fix(error)) from error
    return module


def _wrong(where: str, what: str, fix: str) -> DefinitionError:
    return DefinitionError([Problem(where, what, fix)])


def _last_line_under(folder: Path, error: BaseException) -> Site | None:
    """Return the innermost line in the user's own files."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(folder)]
    return Site(own[-1].filename, own[-1].lineno or 0) if own else None


def _fix(error: BaseException) -> str:
    """Return what to do: for a misspelt name, the one that was probably meant."""
    if isinstance(error, AttributeError) and error.obj is not None:
        hint = nearest(error.name, (name for name in dir(error.obj) if not name.startswith("_")))
        return hint if hint.startswith("Did") else "Mend that line."
    if isinstance(error, ModuleNotFoundError):
        return "Install it in this environment, or mend the import."
    return "Mend that line."


def _is_under(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
