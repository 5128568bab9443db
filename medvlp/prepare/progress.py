"""The progress of a long job: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds between lines without a terminal.
INTERVAL = 30.0


@contextmanager
def progress(title: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr while the context lasts.

    Args:
        title: Name of the items.
        total: Number of items; None if unknown.
        done: Number of items finished by an earlier run.

    Yields:
        A function to call with the number of items finished since its last call.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, completed=done)
            yield lambda amount: bar.advance(task, amount)
        return
    last = time.monotonic()

    def advance(amount: int) -> None:
        nonlocal done, last
        done += amount
        if time.monotonic() - last >= INTERVAL:
            last = time.monotonic()
            print(f"{title}: {done:,}" + (f" of {total:,}" if total else ""), file=sys.stderr, flush=True)

    yield advance
