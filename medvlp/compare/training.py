"""Trains the runs of a comparison, each in a process of its own; resumable."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medvlp.benchmarks.state import read_state, resume, write_state
from medvlp.compare.cost import Cost, read_cost
from medvlp.compare.runs import STATE, Run
from medvlp.config.options import split_commas
from medvlp.config.parser import dump_settings
from medvlp.errors import UserError
from medvlp.tasks.checkpoints import load_pretraining

BENEATH, LOG, LOCK = "beneath.yaml", "fit.log", "lock"
# Seconds that a training which was told to end has for it.
PATIENCE = 30.0


class FailedError(UserError):
    """A training that has failed; the message is its reason."""


def train(run: Run, group: str, trust: str = "") -> bool:
    """Train a run, or the rest of an interrupted one; return whether it was already complete.

    Args:
        run: The run.
        group: Group of the run in W&B.
        trust: Packages whose classes the checkpoint may name, with commas between them.

    Raises:
        FailedError: If the training fails, or another process is computing it.
    """
    with locked(run.folder) as lock:
        state = read_state(run.folder / STATE) or {"id": secrets.token_hex(4), "configuration": run.configuration}
        if "cost" in state and checkpoint_of(run, "last"):
            return True
        write_state(run.folder / STATE, {**state, "reason": None})
        log = run.folder / LOG
        start = log.stat().st_size if log.is_file() else 0
        code = launch(["fit", *command(run, group, state["id"])], log, lock)
        reason = None
        if code:
            reason = reason_of(code, log.read_bytes()[start:].decode(errors="replace"))
        elif (checkpoint := checkpoint_of(run, "last")) is None:
            reason = "training ended before its first validation, and left no last.ckpt"
        else:
            try:
                model = load_pretraining(checkpoint, split_commas(trust))
            except UserError as error:
                reason = str(error)
            else:
                abilities = {"sections": model.sections, "heat_sources": model.heat_sources}
                state |= {"cost": read_cost(checkpoint), "abilities": abilities}
        write_state(run.folder / STATE, {**state, "reason": reason})
        if reason:
            raise FailedError(f"{reason} ({log})")
    return False


def command(run: Run, group: str, identifier: str) -> list[str]:
    """Return the options of its fit, and write the config that any of them can override.

    Args:
        run: The run.
        group: Group of the run in W&B.
        identifier: Identifier of the run in W&B. A resumed run keeps it, because it names the folder of checkpoints.
    """
    options = {"project": "medvlp", "save_dir": str(run.folder), "name": run.label, "id": identifier}
    logger = {"class_path": "WandbLogger", "init_args": options, "dict_kwargs": {"group": group}}
    beneath = run.folder / BENEATH
    beneath.write_text(dump_settings({"trainer": {"logger": logger, "enable_model_summary": False}}))
    own = {"seed_everything": run.seed, "data.seed": run.seed, "trainer.default_root_dir": run.folder}
    cost = f"--trainer.callbacks+={Cost.__module__}.{Cost.__qualname__}"
    return [
        *("-c", str(beneath), *run.options),
        *(f"--{name}={value}" for name, value in own.items()),
        cost,
        *resume(run.folder),
    ]


def checkpoint_of(run: Run, name: str) -> Path | None:
    """Return the newest checkpoint of a name, `last` or `best`, in the folder of a run; None if there is none."""
    found = [path for path in run.folder.rglob("*.ckpt") if re.fullmatch(rf"{name}(-v\d+)?", path.stem)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def read_run(run: Run) -> dict[str, Any]:
    """Return the record of a run; empty if it has not begun."""
    return read_state(run.folder / STATE) or {}


def launch(words: Sequence[str], log: Path, lock: int) -> int:
    """Run medvlp in a process of its own; return its exit status.

    A training that runs out of memory, or is killed, leaves this process alone.

    Args:
        words: The command line.
        log: File that its output is added to.
        lock: Descriptor of the lock of the run. The process keeps it: if this one is killed, the run stays locked until
            the other ends, too.
    """
    program = [sys.executable, "-m", "medvlp", *words]
    # W&B's helper of this process, which tests have started, ends with this process.
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with log.open("ab") as file:
        child = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            env=environment,
        )
        try:
            return child.wait()
        finally:
            if child.poll() is None:
                end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Interrupt a process, and kill it if it does not end."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def reason_of(code: int, output: str) -> str:
    """Return why a process has failed: its error, else its last line, else its exit status."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (": out of memory?" if name == "SIGKILL" else "")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    raised = [line for line in lines if re.match(r"([\w.]+)?(Error|Exception|Interrupt)\b", line)]
    return next(iter(errors[-1:] or raised[-1:] or lines[-1:]), f"exit status {code}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep other processes from computing the run of a folder at the same time; yield the descriptor of the lock.

    Raises:
        FailedError: If another process is computing it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedError("another process is computing it") from None
        yield file.fileno()
