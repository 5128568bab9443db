"""Running a function over many inputs in processes that neither hang nor stay behind."""

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
    """Yield the function's values, in the order in which they are ready.

    Inputs are taken as they are needed: two per worker are under way at any time.

    Args:
        function: What to compute; it and its inputs and outputs are pickled.
        inputs: One for each call.
        workers: Number of processes. With 1 the function runs in this one.

    Raises:
        UserError: If a process dies or memory runs out.
    """
    if workers == 1:
        yield from map(function, inputs)
        return
    # Forked workers would carry this process's tables and threads; they would also not be seen to end with it.
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
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
