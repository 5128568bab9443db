"""Cells on several processes: the first one leads, the others run the Trainer's commands that it hands them.

Lightning starts the other processes at the first command of the Trainer, as the whole command line of the first one
anew, and all of them live as long as it does. They must not plan cells or touch their files a second time: they take
each command from the first process, in the order in which it comes to them, and know nothing else.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Sequence

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment

from medvlp.distributed import world_size
from medvlp.errors import UserError
from medvlp.trainer.command import main

# In the environment of the processes that Lightning starts: the command at which it does. Later ones are broadcast.
FIRST = "MEDVLP_BENCHMARK_COMMAND"
# Seconds in which the first process ends, on a busy machine, if what went wrong here went wrong there.
PATIENCE = 60.0


def check_launcher(nodes: int) -> None:
    """Refuse processes that are started by anything but this command: each of them would compute every cell.

    Args:
        nodes: `trainer.num_nodes`.

    Raises:
        UserError: If there are such.
    """
    slurm = SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if slurm or nodes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "medvlp benchmark starts its processes itself, on one machine: start it once, without torchrun or srun, "
            'with --args "--trainer.devices N --trainer.strategy ddp".'
        )


def lead(command: Sequence[str]) -> Trainer:
    """Run a command of the Trainer on this process, and on those beside it."""
    if world_size() > 1:
        dist.broadcast_object_list([list(command)])
        return main(command)
    os.environ[FIRST] = json.dumps([*command])
    try:
        return main(command)
    finally:
        del os.environ[FIRST]


def dismiss() -> None:
    """Let the other processes end, if there are any."""
    if world_size() > 1:
        dist.broadcast_object_list([None])


def follows() -> bool:
    """Return whether this process was started beside another one."""
    return FIRST in os.environ


def follow() -> None:
    """Run what the first process runs until it has no more. What is to be said, it says."""
    leader = os.getppid()
    command = json.loads(os.environ.pop(FIRST))
    try:
        while command:
            main(command)
            gc.collect()
            received = [None]
            dist.broadcast_object_list(received)
            command = received[0]
    except KeyboardInterrupt:
        sys.exit()
    except Exception:
        # What ends the first process ends this one, too, by the same error or by a lost connection. It says why.
        if _ends(leader):
            sys.exit()
        raise


def _ends(process: int) -> bool:
    """Return whether the process that started this one ends within a few seconds."""
    until = time.monotonic() + PATIENCE
    while os.getppid() == process and time.monotonic() < until:
        time.sleep(0.1)
    return os.getppid() != process
