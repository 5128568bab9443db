"""The command `medvlp`."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

from medvlp import __version__
from medvlp.errors import StoppedWithOthersError, UserError

# Verbs of the Trainer; medvlp.trainer.command, and with it torch, is imported for these alone.
TRAINER = {
    "fit": "train a model",
    "validate": "evaluate on the validation split",
    "test": "evaluate on the test split",
}
# Each module has COMMAND, one function, or COMMANDS, functions by name, or both: then COMMAND needs no name. With
# POSITIONAL, what the function must be given, and is not a keyword, comes without the name of its option. Options named
# in REPEATED are lists whose items come one by one.
COMMANDS = {
    "phantom": ("medvlp.phantom", "write synthetic chest X-rays and reports in the raw layout of a real data set"),
    "prepare": ("medvlp.prepare.datasets", "turn a raw data set into a prepared folder, once"),
    "parse": ("medvlp.parse.command", "read <region, finding, existence> from reports, and measure how well"),
    "regions": ("medvlp.localiser", "train the automatic localiser of anatomical regions anew"),
    "benchmark": ("medvlp.benchmarks.command", "train and test an encoder with shares of labels, or a model as it is"),
    "results": ("medvlp.benchmarks.report", "lay the results of benchmarks beside the published ones"),
    "predict": ("medvlp.inference.predict", "ask a model about image files: findings, tags, embeddings"),
    "explain": ("medvlp.inference.explain", "draw where in an image a model sees what a text says"),
    "search": ("medvlp.inference.search", "find the studies that are nearest to a text or an image"),
    "export": ("medvlp.export", "write a checkpoint as a folder that others can load, or as ONNX"),
    "app": ("medvlp.app", "open a page on this machine to ask a model about images"),
    "demo": ("medvlp.demo.command", "phantom, prepare, fit and test on a small scale"),
    "bench": ("medvlp.demo.speed", "compare speeds with their floors"),
}


def usage() -> str:
    """Return what `medvlp --help` prints."""
    table = {**TRAINER, **{name: line for name, (_, line) in COMMANDS.items()}}
    rows = "\n".join(f"  {name:<9} {line}" for name, line in table.items())
    return f"""usage: medvlp COMMAND [options]

Vision-language pre-training on chest radiographs and their reports.

commands:
{rows}

examples:
  medvlp demo
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
        from jsonargparse import auto_cli

        from medvlp.config.parser import Parser

        module = import_module(COMMANDS[args[0]][0])
        named = getattr(module, "COMMANDS", {})
        functions = named if args[1:2] and args[1] in named else getattr(module, "COMMAND", named)
        positional = hasattr(module, "POSITIONAL")
        # To jsonargparse `--text+ A --text+ B` is a list, and `--text A --text B` means B.
        repeated = [f"--{name}" for name in getattr(module, "REPEATED", ())]
        words = [re.sub(rf"^({'|'.join(repeated)})(?==|$)", r"\1+", word) if repeated else word for word in args[1:]]
        auto_cli(functions, args=words, prog=f"medvlp {args[0]}", as_positional=positional, parser_class=Parser)
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
