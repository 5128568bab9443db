"""Methods to compare: one config each, or several laid over each other, and lists of them in methods.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from medvlp.config.experiments import find_config
from medvlp.errors import NotFoundError, UserError, suggestion

LISTS = Path(__file__).with_name("methods.yaml")
# Joins the configs that lie over each other.
OVER = "+"


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: Its name in tables and folders.
        configs: Its configs, each over those before it, by name or file.
    """

    name: str
    configs: Sequence[str]

    @property
    def options(self) -> list[str]:
        """The configs as options of `medvlp fit`."""
        return [word for config in self.configs for word in ("-c", config)]


def words_of(text: str) -> list[str]:
    """Return the words of an option, with blanks or commas between them."""
    return [word for word in re.split(r"[,\s]+", text) if word]


def lists() -> Mapping[str, Sequence[str]]:
    """Return the lists of methods by name."""
    content: dict[str, list[str]] = yaml.safe_load(LISTS.read_text())
    return content


def read_methods(text: str) -> list[Method]:
    """Read the methods of a command line, in its order, each once.

    Args:
        text: Words with blanks or commas between them: `[NAME=]CONFIG[+CONFIG...]`, or names of lists.

    Raises:
        NotFoundError: If there is no such config or list.
        UserError: If there is no word, two methods have one name, or a name is no name for a folder.
    """
    methods: dict[str, Method] = {}
    for word in _listed(text):
        method = _method(word)
        if methods.setdefault(method.name, method) != method:
            raise UserError(f"--methods '{text}': two methods are named '{method.name}'. Name one: NAME={word}.")
    if not methods:
        raise UserError(f"--methods names none: give configs, such as 'imitate asg', or a list: {', '.join(lists())}.")
    return [*methods.values()]


def find_method(name: str, methods: Sequence[Method]) -> Method:
    """Return the method of a name.

    Raises:
        NotFoundError: If it is not one of the methods.
    """
    names = [method.name for method in methods]
    if name not in names:
        close = suggestion(name, names) or f" There are: {', '.join(names)}."
        raise NotFoundError(f"--baseline '{name}' is not one of the methods.{close}")
    return methods[names.index(name)]


def _listed(text: str) -> Iterator[str]:
    """Yield the words of a text, with the entries of a list in its place."""
    for word in words_of(text):
        yield from lists().get(word, [word])


def _method(word: str) -> Method:
    name, given, configs = word.rpartition("=")
    parts = configs.split(OVER)
    if not all(parts):
        raise UserError(f"--methods '{word}' lacks a config: write [NAME=]CONFIG[+CONFIG...].")
    for config in parts:
        try:
            find_config(config)
        except NotFoundError as error:
            raise NotFoundError(f"--methods '{word}': {error} Lists are {', '.join(lists())}.") from error
    name = name if given else OVER.join(Path(config).stem for config in parts)
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UserError(f"--methods '{word}': '{name}' names a folder: use letters, digits, '-', '_', '.' and '+'.")
    return Method(name, parts)
