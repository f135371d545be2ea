"""A user's own factory, ``package.module:factory``, found and called. Imports no torch by itself."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nfbench.errors import UnknownModel, UnsupportedWorkload


def make(name: str, num_classes: int) -> object:
    """What the factory of that name returns for ``num_classes``.

    Raises:
        UnknownModel: there is no such module or no such callable in it.
        UnsupportedWorkload: the factory raises.
    """
    # what a factory prints is not part of nfbench's own output
    with contextlib.redirect_stdout(sys.stderr), _working_directory_first():
        factory = _load(name)
        try:
            return factory(num_classes=num_classes)
        except (Exception, SystemExit) as error:
            raise UnsupportedWorkload(
                f"The factory {name} raised.",
                why=reason(error),
                try_=f"a callable that takes num_classes and returns a torch.nn.Module: {example(name)}",
            ) from error


def example(name: str) -> str:
    """The first line of a factory that would do."""
    return f"def {name.rpartition(':')[2].rpartition('.')[2]}(num_classes): ..."


def reason(error: BaseException) -> str:
    """The error in a line."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _load(name: str) -> Callable[..., object]:
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        file = module_name.removesuffix(".py")
        remedy = f"python -c 'import {module_name}' for the whole traceback, and mend it"
        if missing:
            remedy = f"{module_name.partition('.')[0]} in the working directory, or its folder on PYTHONPATH"
        raise UnknownModel(
            f"There is no module {module_name!r} to import." if missing else f"The module {module_name!r} raised.",
            why=reason(error),
            try_=f"{file}:{attribute}" if file != module_name else remedy,
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownModel(
                f"The module {module_name!r} has no {attribute!r}.", try_=f"a name that {module_name} defines"
            )
        found = getattr(found, part)
    if not callable(found):
        raise UnknownModel(
            f"{name} is not callable.",
            why=f"It is {type(found).__name__}, a factory takes num_classes and returns a torch.nn.Module.",
            try_=example(name),
        )
    factory: Callable[..., object] = found
    return factory


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    """Modules of the working directory can be imported, as under ``python -m``; a console script leaves it out."""
    before, here = list(sys.path), str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path[:] = before
