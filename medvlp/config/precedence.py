"""Order of precedence on a command line: configs before options, and whole objects before their parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Values may begin with a dash, too: negative numbers, and texts such as `--two words`.
OPTION = re.compile(r"--(?P<name>[\w.-]+)(?P<append>\+?)(=|$)|-[A-Za-z]")
CONFIG = re.compile(r"--config(=|$)|-c")
# Suffixes of a class and its arguments, which name the same part as the option without them.
CLASS = (".class_path", ".init_args", ".dict_kwargs")


def in_order(words: Sequence[str]) -> list[str]:
    """Return the options of one of the Trainer's verbs in the order of their precedence, the weakest first.

    In jsonargparse, later words override earlier ones. A config, or an option that sets a whole part (`--data
    data.yaml`, `--model Class`), would therefore undo the single options before it.

    Args:
        words: The command line behind the verb.

    Returns:
        All configs in their order, then all options in theirs. An option that sets a whole part moves before the
        options that set something inside the part.
    """
    configs: list[list[str]] = []
    options: list[list[str]] = []
    for option in grouped(words):
        if CONFIG.match(option[0]):
            configs.append(option)
        else:
            key = whole(option[0])
            # Options before an entry is appended to a list belong to the entries before, so they stay there.
            start = max((i + 1 for i, other in enumerate(options) if _appends_to(other[0], key)), default=0)
            inside = (i for i, o in enumerate(options) if i >= start and key and name(o[0]).startswith(f"{key}."))
            options.insert(next(inside, len(options)), option)
    return [word for option in configs + options for word in option]


def _appends_to(word: str, key: str) -> bool:
    match = OPTION.match(word)
    return bool(match and match["append"] and f"{key}.".startswith(f"{name(word)}."))


def grouped(words: Sequence[str]) -> list[list[str]]:
    """Split the words into options, each with its values."""
    groups: list[list[str]] = []
    for word in words:
        if OPTION.match(word) or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def name(word: str) -> str:
    """Return the dotted key that an option sets; empty for a short option or a value."""
    match = OPTION.match(word)
    text = match["name"] if match and match["name"] else ""
    for part in CLASS:
        text = text.replace(f"{part}.", ".").removesuffix(part)
    return text


def whole(word: str) -> str:
    """Return the key of the part that an option may set as a whole; empty if the option must keep its place.

    An option that appends to a list must keep its place, because the options behind it set parts of the new entry.
    """
    match = OPTION.match(word)
    return name(word) if match and not match["append"] else ""
