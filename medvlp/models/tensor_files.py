"""Tensors of files that anybody has written: read by name, without running code of the file."""

from __future__ import annotations

import pickle
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pickletools import genops
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from medvlp.errors import UserError

# Pickles in front of and including the content of a file that torch wrote before version 1.6: magic number, version,
# system, content.
OLD_PICKLES = 4
# Entries of checkpoints with tensors that belong to no network.
OTHERS = {"callbacks", "hyper_parameters", "loops", "lr_schedulers", "optimizer", "optimizer_states", "scheduler"}
# Entry of a checkpoint of Lightning; its name is no part of the names of the tensors.
STATE_DICT = "state_dict."


class _Absent:
    """Takes the place of an object of another class in a pickle, keeps its attributes, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _AbsentDict:
    """Takes the place of a kind of dictionary: torch fills an OrderedDict, and no other, with entries."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # of another class, on purpose
        return OrderedDict()


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read the tensors of a state dict, of a checkpoint or of exported weights; no code of the file runs.

    The names of nested dictionaries and of the modules of a pickled network are joined with dots. An entry `state_dict`
    has no name. Settings, optimisers and other objects are left out, whatever their class.

    Args:
        path: A file of safetensors, or one that `torch.save` has written.

    Raises:
        UserError: If the file holds no tensors, or is damaged.
    """
    try:
        content = load_file(path) if path.endswith(".safetensors") else _read_pickle(path)
    except Exception as error:  # the unpickler may raise anything on a damaged or foreign file
        # torch explains its unpickler first.
        lines = str(error).rpartition("WeightsUnpickler error:")[2].split("\n")
        reason = next((line.strip() for line in lines if line.strip()), type(error).__name__)
        raise UserError(f"image encoder weights={path!r} hold no state dict: {reason}") from error
    tensors = {key.removeprefix(STATE_DICT): value for key, value in _named(content, "")}
    if not tensors:
        raise UserError(f"image encoder weights={path!r} hold no state dict: there is no tensor with a name.")
    return tensors


def _read_pickle(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Beside the weights there are objects of other classes, such as the options of the training.
        names = _classes(path)
    # torch looks its own classes up first. All others are neither imported nor called.
    try:
        with safe_globals([(_Absent, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        kinds = {name: _Absent if name.startswith("numpy") else _AbsentDict for name in names}
        with safe_globals([(kind, name) for name, kind in kinds.items()]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _classes(path: str) -> set[str]:
    """Return the names of the classes and functions that a file asks for."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        operations = [operation for content in contents for operation in genops(content)]
    else:
        with open(path, "rb") as file:
            operations = [operation for _ in range(OLD_PICKLES) for operation in genops(file)]
    names = [str(name).split(" ", 1) for code, name, _ in operations if code.name == "GLOBAL"]
    # A pickle has the names of Python 2 for some modules, and torch translates some of them.
    modern = [NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)) for module, name in names]
    return {f"{module}.{name}" for module, name in [*names, *modern]}


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries and modules, with dotted names."""
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, _Absent | OrderedDict) and "_modules" in vars(value):
        for kind in ("_parameters", "_buffers", "_modules"):
            yield from _named(vars(value).get(kind), name)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(key, str) and key not in OTHERS:
                yield from _named(part, f"{name}.{key}" if name else key)
