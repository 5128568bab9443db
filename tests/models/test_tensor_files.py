"""Tensors of foreign files: whatever else they hold is neither needed nor run."""

import argparse
import os
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medvlp.errors import UserError
from medvlp.models.tensor_files import read_tensors

WEIGHT = torch.arange(4.0)


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Settings(dict):
    """A class that the reader lacks."""


class Network(nn.Module):
    """A network whose class the reader lacks."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
        self.register_buffer("missing", None)
        self.shared = self.features[0]


@pytest.mark.parametrize("legacy", [False, True])
def test_no_code_of_a_file_runs(tmp_path, legacy):
    path, trace = tmp_path / "attack.pth", tmp_path / "trace"
    content = {"weight": WEIGHT, "attack": Attack(trace), "args": argparse.Namespace(lr=1)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    tensors = read_tensors(str(path))
    assert list(tensors) == ["weight"]
    assert torch.equal(tensors["weight"], WEIGHT)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_settings_of_any_class_are_left_out(tmp_path, monkeypatch, legacy):
    others = {
        "hyper_parameters": Settings(a=Settings(b=1)),
        "best": np.float64(3),
        "counts": defaultdict(list, a=[1]),
        "names": {"a", "b"},
        "array": np.zeros(3),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "w": torch.zeros(1)},
        "optimizer_states": [{"x": torch.zeros(2)}],
        "dtype": torch.float16,
        "device": torch.device("cpu"),
    }
    path = tmp_path / "foreign.ckpt"
    state = OrderedDict({"a.weight": nn.Parameter(WEIGHT), "a.half": WEIGHT.half(), "a.count": torch.tensor(3)})
    torch.save({"state_dict": state, **others}, path, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(globals(), "Settings")
    tensors = read_tensors(str(path))
    assert {key: value.dtype for key, value in tensors.items()} == {
        "a.weight": torch.float32,
        "a.half": torch.float16,
        "a.count": torch.int64,
    }
    assert torch.equal(tensors["a.weight"], WEIGHT)
    assert not tensors["a.weight"].requires_grad


def test_a_pickled_network_is_read_without_its_class(tmp_path, monkeypatch):
    network = Network()
    wanted = network.state_dict()
    torch.save(network, tmp_path / "network.pt")
    monkeypatch.delitem(globals(), "Network")
    tensors = read_tensors(str(tmp_path / "network.pt"))
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in tensors.items())


def test_names_of_nested_states_are_joined(tmp_path):
    content = {"teacher": {"module.a": WEIGHT}, "state_dict": {"module.a": WEIGHT + 1}, "epoch": 3}
    torch.save(content, tmp_path / "nested.pth")
    tensors = read_tensors(str(tmp_path / "nested.pth"))
    assert {key: value[0].item() for key, value in tensors.items()} == {"teacher.module.a": 0, "module.a": 1}


def test_safetensors(tmp_path):
    save_file({"a.weight": WEIGHT}, tmp_path / "a.safetensors")
    assert torch.equal(read_tensors(str(tmp_path / "a.safetensors"))["a.weight"], WEIGHT)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 broken", b"\x80\x02}q\x00."])
def test_what_holds_no_tensors_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}' hold no state dict: ") as error:
        read_tensors(str(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3}, [WEIGHT], {0: WEIGHT}, "text", {"hyper_parameters": {"w": WEIGHT}}]
)
def test_tensors_without_names_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="hold no state dict: there is no tensor with a name"):
        read_tensors(str(tmp_path / "a.pth"))


def test_a_damaged_file_is_refused(tmp_path):
    torch.save({"weight": WEIGHT, "args": argparse.Namespace(lr=1)}, tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="hold no state dict"):
        read_tensors(str(tmp_path / "cut.pth"))
