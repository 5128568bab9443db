"""Processes of trainings: their end, their lock, and the reasons of failures."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from medvlp.compare import training
from medvlp.compare.budget import own, unequal
from medvlp.compare.methods import LISTS, Method, lists, read_methods
from medvlp.compare.training import FailedError, launch, locked, reason_of


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [
        (
            2,
            "INFO: x\nerror: data.batch_size=7 is more than there are\nbye\n",
            "data.batch_size=7 is more than there are",
        ),
        (1, "Traceback (most recent call last):\n  x\ntorch.OutOfMemoryError: CUDA out of memory\n\n", None),
        (1, "something\nlast words\n", "last words"),
        (1, "", "exit status 1"),
        (-9, "INFO: x\n", "ended by SIGKILL: out of memory?"),
        (-11, "", "ended by SIGSEGV"),
    ],
)
def test_reasons(code, output, reason):
    assert reason_of(code, output) == (reason or "torch.OutOfMemoryError: CUDA out of memory")


def test_the_error_of_a_process_is_in_its_log(tmp_path):
    with locked(tmp_path) as lock:
        assert launch(["fti"], tmp_path / "fit.log", lock) == 2
        assert launch(["fti"], tmp_path / "fit.log", lock) == 2
    assert (tmp_path / "fit.log").read_text().count("error: 'fti' is not a command. Did you mean 'fit'?") == 2


def test_an_interrupt_ends_the_process(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(training.sys, "executable", str(program))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with locked(tmp_path) as lock, pytest.raises(KeyboardInterrupt):
            launch(["fit"], tmp_path / "fit.log", lock)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_run_has_one_process(tmp_path):
    """Even where the process that has started the training was killed."""
    with locked(tmp_path) as lock:
        with pytest.raises(FailedError, match="another process"), locked(tmp_path):
            pass
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    try:
        with pytest.raises(FailedError, match="another process"), locked(tmp_path):
            pass
    finally:
        orphan.kill()
        orphan.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with locked(tmp_path):
                return
        except FailedError:
            time.sleep(0.05)
    pytest.fail("the lock outlives the process")


def test_methods():
    (method,) = read_methods("imitate+overlays/small")
    assert method == Method("imitate+small", ["imitate", "overlays/small"])
    assert method.options == ["-c", "imitate", "-c", "overlays/small"]
    assert [m.name for m in read_methods("b=asg, imitate  b=asg")] == ["b", "imitate"]


@pytest.mark.parametrize("name", lists())
def test_lists_name_configs_that_exist(name):
    assert len(read_methods(name)) == len(lists()[name]), LISTS


def test_unequal_budgets():
    base = {
        "model.objectives.report.dim": 8,
        "model.optimizer.lr": 1e-3,
        "model.image_encoder.name": "resnet50",
        "data.batch_size": 32,
        "data.crop": 224,
        "data.views": 2,
        "trainer.max_epochs": 6,
        "trainer.devices": 1,
        "prepared data": "12345678",
    }
    assert unequal({"a": base, "b": {**base, "model.objectives.report.dim": 16, "data.views": 1}}) == []
    assert own({"a": base, "b": {**base, "data.views": 1}, "c": base}) == ["data.views is 2 (a, c), 1 (b)"]
    changes = {
        "model.image_encoder.name": ("image encoder", "resnet50", "vit"),
        "data.crop": ("image size", 224, 112),
        "data.batch_size": ("batch size", 32, 16),
        "trainer.devices": ("batch size", 1, 2),
        "trainer.max_epochs": ("length", 6, 7),
        "model.optimizer.lr": ("optimiser", 0.001, 0.01),
        "prepared data": ("data", "12345678", "87654321"),
        "trainer.new_option": ("other", None, 3),
    }
    for setting, (part, was, now) in changes.items():
        warned = unequal({"a": base, "b": {**base, setting: now}})
        assert warned == [f"unequal budget, {part}: {setting} is {was} (a), {now} (b)"]
