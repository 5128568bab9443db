"""What tests of several processes share."""

import multiprocessing
import socket
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy

WORLD = 2
# Processes are forks of a server that has imported this and all below it: that would take each process seconds.
multiprocessing.set_forkserver_preload(["medvlp.trainer.command"])


class ForkedProcesses(DDPStrategy):
    """DistributedDataParallel on processes of the server."""

    def __init__(self) -> None:
        super().__init__(start_method="forkserver")
        mp.set_sharing_strategy("file_system")  # The server takes at most 256 descriptors, and a task has more tensors.

    def setup_environment(self) -> None:
        # Tensors arrive in memory that the processes share; Lightning copies them for other ways to start only.
        assert self.model is not None
        for tensor in chain(self.model.parameters(), self.model.buffers()):
            tensor.data = tensor.data.clone()
        super().setup_environment()


def in_processes(function: Callable[..., None], *args: Any) -> None:
    """Call a function in WORLD processes of one group, with the number of the process before its arguments."""
    mp.start_processes(_join_group, (free_port(), function, args), WORLD, start_method="forkserver")


def _join_group(number: int, port: str, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=WORLD, rank=number)
    function(number, *args)
    dist.destroy_process_group()


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).norm() / expected.norm().clamp(min=1e-12)).item()


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])
