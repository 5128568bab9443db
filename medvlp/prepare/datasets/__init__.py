"""A file for each data set, with a `medvlp.prepare.dataset.DataSet` and its command, a function of the file's name.

A new file here is a new `medvlp prepare` command; there is no list of them.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from medvlp.prepare.storing import with_storing

COMMANDS: dict[str, Callable[..., None]] = {
    module.name: with_storing(getattr(import_module(f"{__name__}.{module.name}"), module.name))
    for module in iter_modules(__path__)
}
