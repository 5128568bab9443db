"""Parser with one-line errors that suggest the intended name, and its YAML format. Does not import torch."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, get_loader, set_dumper, set_loader

from medvlp.config.moved import new_name
from medvlp.errors import suggestion

# Packages whose classes configs may name without the module.
CLASS_PACKAGES = ("medvlp.", "lightning.pytorch.", "torch.optim.")

# Lines that jsonargparse prints around the cause: the unions that it tried, and the accepted forms of a class.
CONTEXT = re.compile(
    r"Does not validate against any|Subtypes: |Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but "
    r"|Not a valid subclass of|Subclass types expect one of|a (?:class path|dict) |$"
)
WRAPPER = re.compile(r"""Parser key "([\w.]+)": ?|Problem with given class_path '([\w.]+)': ?""")
UNKNOWN_OPTION = re.compile(r"(?:[Oo]ption '|arguments: --)([\w.]+)")
UNKNOWN_CHOICE = re.compile(r"invalid choice: '(\w+)' \(choose from (.*)\)")
HINT = re.compile(r"\s*Did you mean '[^']+'\?")
# More than the numbers that `load_value` reads: 1e5, 0_e0, ._1, 12:30.5.
NUMBER = re.compile(r"[-+]?[.\d][\d_.:eE+-]*")
UNKNOWN_CLASS = re.compile(r"dot import path string: (\w+)")
UNKNOWN_MEMBER = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")


_load_yaml = get_loader("yaml")


def load_value(value: str) -> Any:
    """Read a YAML or JSON value; the text `None` is null.

    Raises:
        yaml.YAMLError: If the value is neither, or gives a key twice: YAML would silently keep the last one.
    """
    # jsonargparse passes values of nested classes as str(value), so null on the command line becomes 'None'.
    if value == "None":
        return None
    # Tabs may indent JSON, but not YAML.
    value = value.expandtabs() if value.lstrip().startswith("{") and is_json(value) else value
    if ":" in value:
        try:
            document = yaml.compose(value, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            if tab := re.search(r"^ *\t", value, re.MULTILINE):
                line = value.count("\n", 0, tab.start()) + 1
                raise yaml.YAMLError(f"line {line} is indented with a tab: indent with blanks.") from error
            raise
        check_keys(document)
    return _load_yaml(value)


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def check_keys(node: yaml.Node | None) -> None:
    """Refuse a document in which a mapping has a key twice.

    Raises:
        yaml.YAMLError: If there is such a mapping; the error names the key and the lines.
    """
    # Aliases may refer to a node that contains them.
    visited: set[int] = set()
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in visited:
            continue
        visited.add(id(part))
        if isinstance(part, yaml.SequenceNode):
            waiting += part.value
        if isinstance(part, yaml.MappingNode):
            waiting += [value for _, value in part.value]
            lines: dict[str, int] = {}
            for key in (key for key, _ in part.value if isinstance(key, yaml.ScalarNode)):
                line = key.start_mark.line + 1
                if key.value in lines:
                    where = f"lines {lines[key.value]} and {line}" if line > lines[key.value] else f"line {line}"
                    raise yaml.YAMLError(f"'{key.value}' appears twice, in {where}: keep one of them.")
                lines[key.value] = line


class SettingsDumper(yaml.SafeDumper):
    """Writes YAML that `load_value` reads back unchanged: `load_value` reads `1e5` as a number, YAML 1.1 as text."""

    def represent_text(self, text: str) -> yaml.Node:
        """Quote text that looks like a number, such as the run id 12e45678."""
        if NUMBER.fullmatch(text):
            return self.represent_scalar("tag:yaml.org,2002:str", text, style="'")
        return self.represent_str(text)


SettingsDumper.add_representer(str, SettingsDumper.represent_text)


def dump_settings(settings: Any) -> str:
    """Return settings as YAML that the parser reads back unchanged."""
    text: str = yaml.dump(
        settings, Dumper=SettingsDumper, allow_unicode=True, default_flow_style=False, sort_keys=False
    )
    return text


set_loader("yaml", load_value, exceptions=(yaml.YAMLError,))
set_dumper("yaml", dump_settings)


class Parser(ArgumentParser):
    """A parser that prints each error on one line.

    Attributes:
        source: The current config file, which errors name; None while options are parsed.
    """

    source: Path | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # argparse would otherwise accept --trainer.max_epoch for --trainer.max_epochs.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an argument; a positional list takes one or more words."""
        # jsonargparse would expect one word with the list in YAML. It passes some types as actions.
        hint = getattr(kwargs.get("action"), "_typehint", kwargs.get("type"))
        if get_origin(hint) is list and not args[0].startswith("-"):
            kwargs = {**kwargs, "action": None, "type": get_args(hint)[0], "nargs": "+"}
        # `--dry_run` alone means true; not so options of classes, such as --data.augment.
        if hint is bool and args[0].startswith("--") and "." not in args[0] and kwargs.get("default") is False:
            kwargs = {**kwargs, "nargs": "?", "const": True}
        return super().add_argument(*args, **kwargs)

    def print_usage(self, file: Any = None) -> None:
        """Print nothing: the usage has fifty lines of Trainer options, which would bury the error."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error on one line, and exit with code 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        if "Did you mean" not in message:
            message += parser.suggestion(message)
        # The parser of a nested class does not exit: the outermost parser prints its error.
        if not self.exit_on_error or os.environ.get("MEDVLP_DEBUG"):
            super().error(message, ex)
        source = f"{parser.source}: " if parser.source else ""
        print(f"error: {source}{concise(message)}", file=sys.stderr)
        self.exit(2)

    def suggestion(self, message: str) -> str:
        """Return a suggestion for the unknown name in an error message; empty if there is none."""
        if option := UNKNOWN_OPTION.search(message):
            return suggestion(option[1], (action.dest for action in self._actions))
        if name := new_name(message):
            return f" Did you mean '{name}'?"
        if unknown := UNKNOWN_CLASS.search(message):
            return suggestion(unknown[1], class_names())
        if member := UNKNOWN_MEMBER.search(message):
            return suggestion(member[2], dir(sys.modules.get(member[1])))
        if choice := UNKNOWN_CHOICE.search(message):
            return suggestion(choice[1], re.findall(r"'(\w+)'", choice[2]))
        return ""


def class_names() -> set[str]:
    """Return the short names of the imported classes that a config may use."""
    modules = [module for name, module in sys.modules.items() if f"{name}.".startswith(CLASS_PACKAGES)]
    return {name for module in modules for name, value in vars(module).items() if isinstance(value, type)}


def concise(message: str) -> str:
    """Return the cause and the place of a jsonargparse error on one line.

    jsonargparse reports an error inside nested classes as a tree of the types that it tried at each level. The leaves
    of the tree are the causes; the keys and classes above a leaf are its place.
    """
    hint = HINT.search(message)
    message = HINT.sub("", message)
    causes = []
    for line in message.splitlines():
        line = WRAPPER.sub("", line.strip().removeprefix("- "))
        if not CONTEXT.match(line) and line not in causes:
            causes.append(line)
    places = dict.fromkeys(key or f"({path.rpartition('.')[2]})" for key, path in WRAPPER.findall(message))
    if places or "Union subtypes" in message:
        text = ": ".join(filter(None, [" ".join(places), " or ".join(causes)]))
        given = re.search(r"Given value: (?!Namespace|NestedArg)([^{\[].*)", message)
        if given and "Got value" not in text and given[1] not in text:
            text += f". Got value: {given[1]}"
    else:
        text = message
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    text = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", text)
    text = text.replace("Expected a dot import path string:", "unknown class")
    text = re.sub(r"No module named '([\w.]+)'$", r"No module named \1: is it installed, or on PYTHONPATH?", text)
    text = re.sub(r"(or )?Expected an? ", lambda match: match[1] or "expected ", text)
    text = " ".join(text.split())
    return f"{text.rstrip('.')}.{hint[0]}" if hint else text
