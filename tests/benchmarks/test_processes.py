"""Two processes compute cells together: real ones, on the CPU, that Lightning starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from medvlp.__main__ import main
from medvlp.benchmarks.processes import FIRST
from tests.support.small_benchmark import CELLS, TINY, make_workplace

pytestmark = pytest.mark.slow

PARALLEL = f"{TINY} --data.batch_size 4 --trainer.devices 2 --trainer.strategy ddp --trainer.max_epochs 12"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    make_workplace(tmp_path, monkeypatch)
    # The tests' own process has been no part of any group.
    for name in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"):
        monkeypatch.delenv(name, raising=False)


def command(seeds="0,1", more=""):
    grid = ["--weights", "random", "--fractions", "50", "--seeds", seeds]
    return [sys.executable, "-m", "medvlp", "benchmark", "rsna", *grid, "--args", f"{PARALLEL} {more}"]


def run(*arguments, **options):
    """Run to the end; return exit code and all that was printed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command(*arguments, **options), **pipes, check=False, timeout=300)
    return done.returncode, done.stdout


def others():
    """Return the processes of this folder, but this one."""
    here = str(Path.cwd())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if os.readlink(entry / "cwd") == here and b"medvlp" in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


def gone(seconds=20):
    until = time.monotonic() + seconds
    while others() and time.monotonic() < until:
        time.sleep(0.2)
    return not others()


def test_from_nothing_again_and_from_a_test_that_is_missing():
    code, out = run()
    assert code == 0, out
    assert gone()
    for seed in (0, 1):
        (line,) = (line for line in out.splitlines() if line.startswith(f"rsna 50 % seed {seed}:"))
        content = json.loads((CELLS / f"50-{seed}" / "results.json").read_text())
        assert line == f"rsna 50 % seed {seed}: auroc {content['metrics']['auroc']['value']:.3f} ({seed + 1}/2)"
        assert (content["seed"], content["n_train"], content["n_test"]) == (seed, 12, 12)
        # Each image once, of whichever process.
        found = pq.read_table(CELLS / f"50-{seed}" / "predictions.parquet")["image_id"].to_pylist()
        assert len(found) == len(set(found)) == 12
    assert out.count("bootstrap interval of the mean") == 1
    assert "rror" not in out
    assert sorted(path.name for path in CELLS.rglob("*.ckpt")) == ["best.ckpt"] * 2
    # Twelve images are six for each process, two steps of up to four.
    checkpoint = torch.load(next(CELLS.rglob("best.ckpt")), weights_only=True)
    assert checkpoint["global_step"] % 2 == 0
    assert checkpoint["optimizer_states"] == []

    states = {path: path.read_text() for path in CELLS.rglob("cell.json")}
    (CELLS / "50-1" / "results.json").unlink()
    before = pq.read_table(CELLS / "50-1" / "predictions.parquet")
    code, out = run()
    assert code == 0, out
    assert "seed 0: auroc" in out
    assert "(1/2, was there)" in out
    assert "(2/2)" in out
    assert pq.read_table(CELLS / "50-1" / "predictions.parquet").equals(before)
    assert {path: path.read_text() for path in CELLS.rglob("cell.json")} == states

    code, out = run()
    assert (code, out.count("was there")) == (0, 2)
    assert gone()


@pytest.mark.parametrize("cell", [0, 1])
def test_an_interrupted_cell_goes_on(cell):
    """Be it the one at which the other process was started, or a later one; the first process alone is told."""
    seeds = "0,1" if cell else "0"
    # A shell has what it starts in the background ignore interrupts, these tests and their processes included.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command(seeds), **pipes, **listening)
    folder, until = CELLS / f"50-{cell}", time.monotonic() + 240
    while not any(folder.rglob("last.ckpt")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    assert f"seed {cell} is interrupted. Run the same command again to continue." in out
    assert "Traceback" not in out
    assert gone()
    assert not (folder / "results.json").exists()
    state = json.loads((folder / "cell.json").read_text())
    code, out = run(seeds)
    assert code == 0, out
    assert out.count("was there") == cell
    assert json.loads((folder / "cell.json").read_text())["id"] == state["id"]
    assert json.loads((folder / "results.json").read_text())["n_test"] == 12


def test_an_error_is_said_once():
    code, out = run("0", more="--data.batch_size 400 --data.drop_last true")
    assert code == 2
    assert out.count("error: batch_size=400") == 1
    assert "Traceback" not in out
    assert gone()


@pytest.mark.parametrize(
    ("environment", "more"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}, ""),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0"}, ""),
        ({}, "--trainer.num_nodes 2"),
    ],
)
def test_processes_of_another_launcher_are_refused(environment, more, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main(command(more=more)[3:])
    assert end.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert "start it once, without torchrun or srun" in line
    assert not CELLS.exists()
    assert FIRST not in os.environ
