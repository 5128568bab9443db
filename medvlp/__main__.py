"""The command `medvlp`."""

from __future__ import annotations

import difflib
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module

from medvlp import __version__
from medvlp.errors import StoppedWithOthersError, UserError, suggestion

# Verbs of the Trainer; medvlp.trainer.command, and with it torch, is imported for these alone.
TRAINER = {
    "fit": "train a model",
    "validate": "evaluate on the validation split",
    "test": "evaluate on the test split",
}


@dataclass(frozen=True)
class Command:
    """A command: the function of its name in a module, or functions by name in the module's `COMMANDS`, or both.

    The options of a function are its arguments, their help is its docstring. A module with many functions has a
    `listing` of its own in place of the usual help.

    Attributes:
        module: The module, imported when the command is run.
        help: Line of `medvlp --help`.
        positional: Whether arguments without a default, unless they are keywords, come without the name of an option.
        repeated: Options that are lists and come once for each item: `--text A --text B`.
        quoted: Options whose value may begin with dashes: `--args "--data.split null"`.
        first: Option whose name may be left out if its value comes first.
        flags: Options that mean true where no value follows.
    """

    module: str
    help: str
    positional: bool = False
    repeated: Sequence[str] = ()
    quoted: Sequence[str] = ()
    first: str = ""
    flags: Sequence[str] = ()

    def run(self, name: str, words: Sequence[str]) -> None:
        """Carry out the command.

        Args:
            name: Name of the command.
            words: The words behind it on the command line.
        """
        from jsonargparse import auto_cli

        from medvlp.config.parser import Parser

        module = import_module(self.module)
        functions = getattr(module, "COMMANDS", {})
        if words and words[0] in functions:
            function, prog, words = functions[words[0]], f"medvlp {name} {words[0]}", words[1:]
        elif functions and (listing := getattr(module, "listing", None)):
            print(listed(listing(), functions, words))
            return
        else:
            function, prog = getattr(module, name, functions), f"medvlp {name}"
        auto_cli(function, args=self.spell(words), prog=prog, as_positional=self.positional, parser_class=Parser)

    def spell(self, words: Sequence[str]) -> list[str]:
        """Return the words as jsonargparse wants them.

        To jsonargparse `--text+ A --text+ B` is a list, and `--text A --text B` means B. What follows `--args` is to it
        an option, if it begins with one of this command.
        """
        spelt: list[str] = []
        if self.first and words and not words[0].startswith("-"):
            words = [self.first, *words]
        for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
            option, equals, value = word.partition("=")
            if spelt and spelt[-1] in self.quoted:
                spelt[-1] += f"={word}"
            elif word in self.flags and following not in ("true", "false"):
                spelt.append(f"{word}=true")
            else:
                spelt.append(f"{option}+{equals}{value}" if option in self.repeated else word)
        return spelt


COMMANDS = {
    "phantom": Command(
        "medvlp.phantom.command", "write synthetic chest X-rays and reports in the raw layout of a real data set"
    ),
    "datasets": Command(
        "medvlp.prepare.catalogue",
        "list data sets: access, size, licence, and the commands to get and to prepare them",
        first="--name",
        flags=["--no_account"],
    ),
    "prepare": Command("medvlp.prepare.command", "turn a raw data set into a prepared folder, once"),
    "parse": Command("medvlp.parse.command", "read <region, finding, existence> from reports, and measure how well"),
    "regions": Command("medvlp.localiser", "train the automatic localiser of anatomical regions anew"),
    "benchmark": Command(
        "medvlp.benchmarks.command",
        "train and test an encoder with shares of labels, or a model as it is",
        positional=True,
        quoted=["--args"],
    ),
    "results": Command(
        "medvlp.benchmarks.report", "lay the results of benchmarks beside the published ones", positional=True
    ),
    "compare": Command(
        "medvlp.compare.command",
        "train several methods with one budget, test them alike, and compare them",
        quoted=["--args", "--test_args"],
    ),
    "predict": Command(
        "medvlp.inference.predict", "ask a model about image files: findings, tags, embeddings", positional=True
    ),
    "explain": Command(
        "medvlp.inference.explain",
        "draw where in an image a model sees what a text says",
        positional=True,
        repeated=["--text"],
    ),
    "search": Command(
        "medvlp.inference.search", "find the studies that are nearest to a text or an image", positional=True
    ),
    "export": Command(
        "medvlp.export.command", "write a checkpoint as a folder that others can load, or as ONNX", positional=True
    ),
    "app": Command("medvlp.app.command", "open a page on this machine to ask a model about images"),
    "demo": Command("medvlp.demo.command", "phantom, prepare, fit and test on a small scale"),
    "bench": Command("medvlp.demo.speed", "compare speeds with their floors"),
}


def listed(listing: str, functions: Iterable[str], words: Sequence[str]) -> str:
    """Return the list of functions.

    Args:
        listing: The list.
        functions: Their names.
        words: What was asked for.

    Raises:
        UserError: If it was a function that is not there.
    """
    if words and words[0] not in ("-h", "--help"):
        advice = suggestion(words[0], functions)
        raise UserError(
            f"there is no '{words[0]}'.{advice}" + ("" if advice else f" There are: {', '.join(functions)}.")
        )
    return listing


def usage() -> str:
    """Return what `medvlp --help` prints."""
    table = {**TRAINER, **{name: command.help for name, command in COMMANDS.items()}}
    rows = "\n".join(f"  {name:<9} {line}" for name, line in table.items())
    return f"""usage: medvlp COMMAND [options]

Vision-language pre-training on chest radiographs and their reports.

commands:
{rows}

examples:
  medvlp demo
  medvlp datasets --purpose pre-training --no_account
  medvlp prepare mimic_cxr --images mimic-cxr-jpg/2.0.0 --reports mimic-cxr-reports.zip --out prepared/mimic_cxr
  medvlp fit -c imitate --data.root prepared/mimic_cxr
  medvlp fit -c runs/medvlp/ID/config.yaml              run again what was run
  medvlp predict images/ --weights runs/medvlp/ID/checkpoints/last.ckpt --out scores.csv
  medvlp explain chest.dcm --weights last.ckpt --text "left pleural effusion" --out picture.png
  medvlp benchmark rsna --weights last.ckpt --fractions 1,10

'medvlp COMMAND --help' shows the options of a command.
MEDVLP_DEBUG=1 shows the traceback of an error.
"""


def run(args: Sequence[str]) -> None:
    """Carry out one command line."""
    if not args or args[0] in ("-h", "--help"):
        print(usage(), end="")
    elif args[0] == "--version":
        print(f"medvlp {__version__}")
    elif args[0] in TRAINER:
        from medvlp.trainer.command import main as trainer_main

        trainer_main(args)
    elif args[0] in COMMANDS:
        COMMANDS[args[0]].run(args[0], args[1:])
    else:
        close = difflib.get_close_matches(args[0], [*TRAINER, *COMMANDS], n=1)
        suggestion = f"Did you mean '{close[0]}'?" if close else "'medvlp --help' lists the commands."
        raise UserError(f"'{args[0]}' is not a command. {suggestion}")


def main(args: Sequence[str] | None = None) -> None:
    """Run `medvlp`.

    Args:
        args: The command line without the program's name; what the shell gave if not said.

    Raises:
        SystemExit: With code 2 where the user can mend what went wrong, 130 after an interrupt.
    """
    try:
        run(sys.argv[1:] if args is None else args)
    except (UserError, KeyboardInterrupt) as error:
        if os.environ.get("MEDVLP_DEBUG"):
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        message = "interrupted" if interrupted else " ".join(str(error).split())
        if not isinstance(error, StoppedWithOthersError):
            print(f"error: {message}", file=sys.stderr)
        sys.exit(130 if interrupted else 2)


if __name__ == "__main__":
    main()
