"""The options of all commands of `medvlp prepare` beside their own: how pixels are stored, and which part is made.

A front end is about one data set, and knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Literal

from medvlp.prepare.parts import JOIN, Part

Kind = Literal["auto", "array", "compressed"]
HELP = """
        store: Keep the images in one array that is mapped into memory, or compressed without loss in files of 1,024.
            With auto, images of more than 64 GiB as an array are compressed.
        shard: Prepare one part of the folder, such as 3/16 on the third of 16 machines; 'join' when all have ended."""


@dataclass(frozen=True)
class Storing:
    """How pixels are stored, and which part of a preparation is made.

    Attributes:
        store: The store.
        part: The part; `join` to join all, None to prepare the folder as a whole.
    """

    store: Kind = "auto"
    part: Part | Literal["join"] | None = None


# The options of the command that runs.
CURRENT: ContextVar[Storing] = ContextVar("storing", default=Storing())  # noqa: B039  # it is frozen


def with_storing(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command of a data set with these options, behind its own.

    Args:
        command: The command. `prepare`, which it calls, reads the options.
    """

    @wraps(command)
    def run(*args: Any, store: Kind = "auto", shard: str | None = None, **options: Any) -> None:
        part = shard if shard is None else JOIN if shard == JOIN else Part.parse(shard)
        token = CURRENT.set(Storing(store, part))
        try:
            command(*args, **options)
        finally:
            CURRENT.reset(token)

    own = signature(command)
    added = [
        Parameter("store", Parameter.KEYWORD_ONLY, default="auto", annotation=Kind),
        Parameter("shard", Parameter.KEYWORD_ONLY, default=None, annotation=str | None),
    ]
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__doc__ = f"{(command.__doc__ or '').rstrip()}{HELP}\n    "
    run.__annotations__ = {**command.__annotations__, "store": Kind, "shard": str | None}
    return run
