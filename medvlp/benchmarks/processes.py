"""Cells on several processes: the first process leads, and the others run the Trainer commands that it sends.

Lightning starts the other processes at the first command of the Trainer, with the command line of the first process.
They live as long as the first process does. They must not plan cells or touch files a second time. So they only run
the commands of the first process, in its order.
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

# Environment variable with the command at which Lightning starts the other processes. Later commands are broadcast.
FIRST = "MEDVLP_BENCHMARK_COMMAND"
# Seconds until the first process has ended, even on a busy machine, if the same error struck it.
PATIENCE = 60.0


def check_launcher(nodes: int) -> None:
    """Refuse processes that this command did not start itself: each of them would compute every cell.

    Args:
        nodes: `trainer.num_nodes`.

    Raises:
        UserError: If torchrun or srun has started several processes, or `nodes` is above 1.
    """
    slurm = SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if slurm or nodes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "this command starts its processes itself, on one machine: start it once, without torchrun or srun, "
            'with --args "--trainer.devices N --trainer.strategy ddp".'
        )


def lead(command: Sequence[str]) -> Trainer:
    """Run a command of the Trainer on this process and on the other processes."""
    if world_size() > 1:
        dist.broadcast_object_list([list(command)])
        return main(command)
    os.environ[FIRST] = json.dumps([*command])
    try:
        return main(command)
    finally:
        del os.environ[FIRST]


def dismiss() -> None:
    """Tell the other processes to end, if there are any."""
    if world_size() > 1:
        dist.broadcast_object_list([None])


def follows() -> bool:
    """Return whether another process leads this one."""
    return FIRST in os.environ


def follow() -> None:
    """Run the commands of the first process until it dismisses this one, and leave messages to the first process."""
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
        # An error that ends the first process also ends this one, or the connection is lost. The first one reports it.
        if _ends(leader):
            sys.exit()
        raise


def _ends(process: int) -> bool:
    """Return whether the process that started this one ends within `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while os.getppid() == process and time.monotonic() < until:
        time.sleep(0.1)
    return os.getppid() != process
