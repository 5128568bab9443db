"""A file for each data set, with a `medvlp.prepare.dataset.DataSet` and its command, a function of the file's name.

A new file here is a new `medvlp prepare` command; there is no list of them.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from medvlp.prepare.storing import with_storing


class FrontEnds(Mapping[str, Callable[..., None]]):
    """The commands by name. A file is imported when its command is asked for: a list of names needs none of them."""

    def __init__(self) -> None:
        self._names = [module.name for module in iter_modules(__path__)]

    def __getitem__(self, name: str) -> Callable[..., None]:
        """Return a command.

        Raises:
            KeyError: If there is no such data set.
        """
        if name not in self._names:
            raise KeyError(name)
        return with_storing(getattr(import_module(f"{__name__}.{name}"), name))

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of commands."""
        return len(self._names)


COMMANDS: Mapping[str, Callable[..., None]] = FrontEnds()
