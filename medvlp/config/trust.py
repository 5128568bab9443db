"""Guards: settings may only build classes, and settings from files only classes of trusted packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import yaml

from medvlp.errors import UserError

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
KEYS = ("class_path", "_class_path")
TRUSTED = ("medvlp",)
"""Packages whose classes weights may always name."""
# Options whose files hold no settings of objects.
FILES = ("weights", "protocol")


def check_trusted(settings: Any, packages: Sequence[str], where: str) -> None:
    """Refuse settings that name anything but classes of trusted packages, before they are imported.

    Args:
        settings: Hyper-parameters from an untrusted source.
        packages: Names of the trusted packages.
        where: Name of the settings in errors.

    Raises:
        UserError: If the settings name anything else, or a trusted package cannot be imported.
    """
    trusted = tuple(f"{package}." for package in packages)
    check_no_text(settings, where)
    for path in import_paths(settings):
        # Importing a module runs its code, so the path is checked before.
        if not IMPORT_PATH.fullmatch(path):
            raise UserError(f"{where}: '{path}' is not a class of {', '.join(packages)}.")
        if not path.startswith(trusted):
            package = path.partition(".")[0]
            raise UserError(
                f"{where}: the class '{path}' is not of {', '.join(packages)}. If you trust it: --trust "
                f"{package} (in Python trust=['{package}'])."
            )
        kind = named(path, where)
        # Trusted modules import classes of other packages, such as medvlp.trainer.command.LightningCLI: refuse these.
        if not isinstance(kind, type) or not f"{kind.__module__}.".startswith(trusted):
            raise UserError(f"{where}: '{path}' is not a class of {', '.join(packages)}.")


def check_classes(settings: Any, where: str) -> None:
    """Refuse parsed settings that name a function, or another object, in place of a class: it would be called.

    Args:
        settings: Settings from the parser, which gives classes their full names.
        where: Name of the settings in errors.

    Raises:
        UserError: If the settings name a function, or anything else that is no class.
    """
    for key, value in items(settings):
        if isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
            raise UserError(f"{where} {key} is the function '{value.__qualname__}': only classes can be named there.")
        if key in KEYS and not isinstance(named(value), type):
            raise UserError(f"{where} {key} '{value}' is not a class.")


def check_no_text(settings: Any, where: str) -> None:
    """Refuse text that the parser would read as settings, or as a file of settings, in place of an object.

    Args:
        settings: Settings from an untrusted source.
        where: Name of the settings in errors.

    Raises:
        UserError: If the settings contain such text.
    """
    for key, value in items(settings):
        if isinstance(value, str) and (_is_structure(value) or (key not in FILES and Path(value).is_file())):
            raise UserError(f"{where} have text, or a file, in place of settings: '{key}'.")


def import_paths(settings: Any) -> Iterator[str]:
    """Yield all texts in settings that the parser would import, or might import.

    It imports the value of `class_path`. In place of an object it also accepts the bare name of a class, or settings as
    text. Therefore every text counts that contains `class_path`, or has the form of a name in an installed package.
    """
    for key, value in items(settings):
        if isinstance(value, str) and (
            key in KEYS
            or "class_path" in value
            or (IMPORT_PATH.fullmatch(value) and _is_installed(value.partition(".")[0]))
        ):
            yield value


def items(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the innermost values in settings, each with its key; values in a list have the key of the list."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from items(value, str(name))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from items(value, key)
    else:
        yield key, settings


def named(path: str, where: str = "settings") -> Any:
    """Return the object with the import path `MODULE.NAME`; None if the package has no such module or name.

    Args:
        path: The import path.
        where: Name, in errors, of the settings that contain the path.

    Raises:
        UserError: If the package, or a module that it imports, cannot be imported.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name and "." in error.name and f"{module}.".startswith(f"{error.name}."):
            return None
        missing = error.name or module
        raise UserError(
            f"{where}: the class '{path}' cannot be imported. No module named {missing}: is it installed, or on "
            "PYTHONPATH?"
        ) from error
    except ImportError as error:
        raise UserError(f"{where}: the module of the class '{path}' cannot be imported: {error}.") from error


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a loaded module without a spec, such as __main__
        return True


def _is_structure(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(text), dict | list)
    except yaml.YAMLError:
        return False
