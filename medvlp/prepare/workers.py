"""Parallel evaluation of a function in processes that neither hang nor outlive this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from medvlp.errors import UserError

Input = TypeVar("Input")
Output = TypeVar("Output")


def in_parallel(function: Callable[[Input], Output], inputs: Iterable[Input], workers: int) -> Iterator[Output]:
    """Yield the values of a function in the order of their completion.

    Two inputs per worker are under way at any time; the others are not read yet.

    Args:
        function: The function. It, its inputs and its values are pickled.
        inputs: An input for each call.
        workers: Number of processes. With 1 the function runs in this one.

    Raises:
        UserError: If a process dies or memory runs out.
    """
    if workers == 1:
        yield from map(function, inputs)
        return
    # Forked workers would copy the tables and threads of this process, and would not notice its end.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    pending: set[Future[Output]] = set()
    try:
        for value in inputs:
            pending.add(pool.submit(function, value))
            if len(pending) == 2 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except (BrokenProcessPool, MemoryError):
        raise UserError(
            "A worker process died or ran out of memory: give fewer --workers. "
            "Run the same command again to go on where this one stopped."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
