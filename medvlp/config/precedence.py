"""The order in which the words of a command line apply: configs first, then options, the whole before its parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A negative number, or a text with a blank in it, is a value.
OPTION = re.compile(r"--(?P<name>[\w.-]+)(?P<append>\+?)(=|$)|-[A-Za-z]")
CONFIG = re.compile(r"--config(=|$)|-c")
# A class and its arguments are one thing, however they are spelt.
CLASS = (".class_path", ".init_args", ".dict_kwargs")


def in_order(words: Sequence[str]) -> list[str]:
    """Return the options of a verb of the Trainer in the order of their precedence, the weakest first.

    jsonargparse lets the later word win. A config, or the file or class of a part (`--data data.yaml`,
    `--model Class`), would therefore undo the single options before it.

    Args:
        words: The command line behind the verb.

    Returns:
        All configs in their order, then all options in theirs, except that one which gives the whole of a part comes
        before those which give something inside it.
    """
    configs: list[list[str]] = []
    options: list[list[str]] = []
    for option in grouped(words):
        if CONFIG.match(option[0]):
            configs.append(option)
        else:
            key = whole(option[0])
            # What stands before an entry is appended to a list is of the entries before.
            start = max((i + 1 for i, other in enumerate(options) if _appends_to(other[0], key)), default=0)
            inside = (i for i, o in enumerate(options) if i >= start and key and name(o[0]).startswith(f"{key}."))
            options.insert(next(inside, len(options)), option)
    return [word for option in configs + options for word in option]


def _appends_to(word: str, key: str) -> bool:
    match = OPTION.match(word)
    return bool(match and match["append"] and f"{key}.".startswith(f"{name(word)}."))


def grouped(words: Sequence[str]) -> list[list[str]]:
    """Return each option with its values."""
    found: list[list[str]] = []
    for word in words:
        if OPTION.match(word) or not found:
            found.append([])
        found[-1].append(word)
    return found


def name(word: str) -> str:
    """Return the dotted name of what an option sets; empty where it has none."""
    match = OPTION.match(word)
    text = match["name"] if match and match["name"] else ""
    for part in CLASS:
        text = text.replace(f"{part}.", ".").removesuffix(part)
    return text


def whole(word: str) -> str:
    """Return the name of the part that an option may set as a whole; empty where its place must stay.

    What is appended to a list, and options inside the last of a list's entries, are a matter of order.
    """
    match = OPTION.match(word)
    return name(word) if match and not match["append"] else ""
