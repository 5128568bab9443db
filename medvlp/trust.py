"""What settings may have imported and made: classes, and from files of others only those of trusted packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from medvlp.errors import UserError

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
KEYS = ("class_path", "_class_path")


def check_trusted(settings: Any, packages: Sequence[str], where: str) -> None:
    """Refuse settings that name anything but classes of trusted packages, before they are imported.

    Args:
        settings: Hyper-parameters that a stranger may have written.
        packages: Names of packages.
        where: What errors call the settings.

    Raises:
        UserError: If they name something else.
    """
    trusted = tuple(f"{package}." for package in packages)
    for path in import_paths(settings):
        # Importing a module runs it.
        if not IMPORT_PATH.fullmatch(path):
            raise UserError(f"{where} ask for '{path}', which is no class of {', '.join(packages)}.")
        if not path.startswith(trusted):
            package = path.partition(".")[0]
            raise UserError(
                f"{where} ask for the class '{path}', which is not of {', '.join(packages)}. If you trust its package: "
                f"trust=['{package}'], or --trust {package}."
            )
        # What our modules have imported from elsewhere, such as medvlp.demo.subprocess.Popen, is not ours.
        found = named(path)
        if not isinstance(found, type) or not f"{found.__module__}.".startswith(trusted):
            raise UserError(f"{where} ask for '{path}', which is no class of {', '.join(packages)}.")


def check_classes(settings: Any, where: str) -> None:
    """Refuse settings, as the parser returns them, that would have functions called where classes are made.

    Args:
        settings: Settings in which classes have their full names.
        where: What errors call the settings.

    Raises:
        UserError: If they name a function.
    """
    for key, value in items(settings):
        if isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
            raise UserError(f"{where} {key} is the function '{value.__qualname__}': only classes can be named there.")
        if key in KEYS and not isinstance(named(value), type):
            raise UserError(f"{where} {key} '{value}' is no class.")


def import_paths(settings: Any) -> Iterator[str]:
    """Yield everything in settings that would be imported, or might be.

    That is the value of `class_path`. But where a class is expected its bare name does, too, and so do settings as
    text: hence every text counts that has the form of a name in an installed package, or speaks of a class path.
    """
    for key, value in items(settings):
        if isinstance(value, str) and (
            key in KEYS
            or "class_path" in value
            or (IMPORT_PATH.fullmatch(value) and find_spec(value.partition(".")[0]) is not None)
        ):
            yield value


def items(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the innermost values in settings, each with the key that it, or the list it is in, stands under."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from items(value, str(name))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from items(value, key)
    else:
        yield key, settings


def named(path: str) -> Any:
    """Return what a module has under the name `MODULE.NAME`; None if there is none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None
