"""Tensors of files that anybody has written: read by name, without running code of the file."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor, _rebuild_tensor_v2

from medvlp.errors import UserError

# The classes and functions that tensors are pickled with.
TENSORS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch", "Size"): torch.Size,
}
# Entries of checkpoints with tensors that belong to no network.
OTHERS = {"callbacks", "hyper_parameters", "loops", "lr_schedulers", "optimizer", "optimizer_states", "scheduler"}
# Entry of a checkpoint of Lightning; its name is no part of the names of the tensors.
STATE_DICT = "state_dict."


class _Absent:
    """Takes the place of an object of any other class in a pickle, keeps its attributes, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows tensors alone: whatever else a file names is neither imported nor called."""

    def find_class(self, module: str, name: str) -> Any:
        return TENSORS.get((module, name), _Absent)


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# What torch asks a module like pickle for.
PICKLE = SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)


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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
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
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=PICKLE)


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries and modules, with dotted names."""
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, _Absent) and "_modules" in vars(value):
        for kind in ("_parameters", "_buffers", "_modules"):
            yield from _named(vars(value).get(kind), name)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if isinstance(key, str) and key not in OTHERS:
                yield from _named(part, f"{name}.{key}" if name else key)
