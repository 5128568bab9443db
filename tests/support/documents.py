"""The documentation as the tests read it: its pages, their code blocks, and a place in which their commands run.

`python -m tests.support.documents` runs the `console` blocks and writes what the commands print under them.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medvlp.__main__ import main
from tests.support.tiny import options
from tests.support.workplace import SIZE, SMALL, make_workplace

ROOT = Path(__file__).parents[2]
SITE = ROOT / "medvlp" / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    ROOT / "experiments" / "README.md",
    ROOT / "medvlp" / "protocols" / "README.md",
    *sorted((SITE / "pages").rglob("*.md")),
]
LANGUAGES = {"console", "diff", "python", "sh", "text", "yaml"}
FENCE = re.compile(r"```(\w*) ?(?:title=\"(.+)\")?$")
# The reason of a block whose command the page adds to medvlp: it is run in a copy with the files of the page.
ADDED = "in the repository"
REASON = re.compile(r"<!-- not run: (.+) -->")

# Commands that end only when they are stopped, or take minutes: their options are read, and nothing is done.
LONG = {"app", "bench", "compare", "demo", "regions"}
TRAINED = ("classification/", "segmentation/", "detection/")
AS_IT_IS = ("zeroshot", "retrieval", "grounding")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: The file it stands in.
        line: Number of its first line, from 1.
        language: The word behind the fence.
        title: Name of the file that it shows, or none.
        reason: Why it is not run, or none.
        text: Its lines.
    """

    page: Path
    line: int
    language: str
    title: str | None
    reason: str | None
    text: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    reason, start = None, 0
    while start < len(lines):
        fence = FENCE.match(lines[start])
        if fence is None:
            mark = REASON.match(lines[start])
            reason = mark[1] if mark else reason if not lines[start] else None
            start += 1
            continue
        end = lines.index("```", start + 1)
        yield Block(page, start + 2, fence[1], fence[2], reason, "\n".join(lines[start + 1 : end]))
        reason, start = None, end + 1


def run(block: Block) -> None:
    """Run a block in the current folder: write the file that it shows, else carry out its code.

    Raises:
        AssertionError: If something in it fails, or prints something else than it shows.
    """
    if block.title:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text + "\n")
    elif block.language == "python":
        Path("block.py").write_text(block.text + "\n")
        runpy.run_path("block.py", run_name="__main__")
    elif block.language == "sh":
        for line in command_lines(block.text):
            printed, code = run_line(line, block.place)
            assert code == 0, f"{block.place}: {line}\n{printed}"
    elif block.language == "console":
        for line, shown in shown_outputs(block.text):
            compare(shown, printed_by(line, block.place), f"{block.place}: {line}")


def compare(shown: str, printed: str, place: str) -> None:
    """Check that a command prints what is shown; `...` stands for anything."""
    parts = [" ".join(part.split()) for part in shown.split("...")]
    pattern = ".*".join(map(re.escape, parts))
    assert re.search(pattern, " ".join(printed.split())), f"{place}\nshows\n{shown}\nand prints\n{printed}"


def run_added(block: Block, checkout: Path) -> None:
    """Run a console block in the current folder with a copy of medvlp that has the files of its page.

    Args:
        block: A block with the reason `ADDED`.
        checkout: Folder of the copy, made here.

    Raises:
        AssertionError: If a command fails in another way, or prints something else, than it shows.
    """
    for name in ("medvlp", "experiments"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for other in blocks(block.page):
        if other.title and other.title.startswith("medvlp/"):
            (checkout / other.title).write_text(other.text + "\n")
        if other.language == "diff":
            path = checkout / "medvlp" / "__main__.py"
            lines = re.sub(r"^\+", "", other.text, flags=re.MULTILINE)
            path.write_text(path.read_text().replace("COMMANDS = {\n", f"COMMANDS = {{\n{lines}\n"))
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    for line, shown in shown_outputs(block.text):
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        place = f"{block.place}: {line}"
        assert (done.returncode == 0) == (not shown.startswith("error: ")), f"{place}\n{done.stdout}{done.stderr}"
        compare(shown, done.stdout + done.stderr, place)


def command_lines(text: str) -> list[str]:
    """Return the commands of a block, continued lines joined, comments left out."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if shlex.split(line, comments=True)]


def shown_outputs(text: str) -> list[tuple[str, str]]:
    """Return each command of a console block, with what is shown under it."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts[1:])]


def printed_by(line: str, place: str) -> str:
    """Return what a command prints that a console block shows: its error alone, if it ends in one."""
    printed, code = run_line(line, place, shown=True)
    errors = [text for text in printed.splitlines() if text.startswith("error: ")]
    assert (code == 0) == (not errors), f"{place}: {line}\n{printed}"
    return "\n".join(errors) or printed.strip()


def run_line(line: str, place: str, shown: bool = False) -> tuple[str, int]:
    """Carry out a command line; return what it prints, and its exit status.

    Args:
        line: The command line.
        place: Where it stands.
        shown: What it prints is shown: it is made small no further than a run of the Trainer has to be.
    """
    command = shlex.split(line, comments=True)
    while re.match(r"\w+=", command[0]):  # such as PYTHONPATH=., where we are anyway
        del command[0]
    if command[0] == "make":
        return dry_run(command, place)
    assert command[0] == "medvlp", f"{place}: the tests do not run '{command[0]}'; say why in <!-- not run: ... -->"
    trains = command[1] in ("fit", "validate", "test")
    return run_medvlp(made_small(command[1:]) if trains or not shown else command[1:])


def dry_run(command: list[str], place: str) -> tuple[str, int]:
    """Have make print the commands of its targets, and medvlp read their options."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{place}: {done.stderr}"
    for line in command_lines(done.stdout):
        name, *arguments = shlex.split(line)
        if name.endswith("/medvlp"):
            printed, code = run_medvlp([*arguments, "--print_config"])
            assert code == 0, f"{place}: {line}\n{printed}"
    return done.stdout, 0


def made_small(arguments: list[str]) -> list[str]:
    """Return the arguments of a command with those that make it small, as far as it can be."""
    if not arguments or "--help" in arguments or "--print_config" in arguments:
        return arguments
    verb, configs = arguments[0], [b for a, b in itertools.pairwise(arguments) if a in ("-c", "--config")]
    if verb in LONG:
        return [*arguments, "--print_config"]
    if verb == "benchmark" and not arguments[1].startswith(AS_IT_IS):
        return [*arguments, "--print_config"]
    if verb == "predict":
        return [*arguments, "--workers=1"]
    if verb == "phantom":
        return [*arguments, "--studies=24", f"--size={SIZE}", "--workers=1"]
    if verb == "prepare" and "--out" in arguments:
        if "--shard" not in arguments:  # parts stand beside each other
            shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
        return [*arguments, *SMALL]
    if verb not in ("fit", "validate", "test"):
        return arguments
    small = ["--trainer.logger=false"]
    if any(name.startswith(TRAINED) for name in configs):
        small += [*options(Path("data"))[:3], "--data.crop=32", "--data.num_workers=0", "--trainer.fast_dev_run=true"]
        small += ["--data.resize=32"]
    elif any(name.startswith(AS_IT_IS) for name in configs):
        small += options(Path("data"))[:3]
    else:
        small += [option for option in options(Path("data"), Path("bert")) if not option.startswith("--data.root")]
        small += ["--data.resize=null"]
        small += ["--trainer.fast_dev_run=true"] if "--overfit" in arguments else ["--trainer.max_steps=1"]
        if "asg" in configs:
            small += ["--model.objectives.tag.init_args.query_encoder.init_args.name=bert"]
            small += ["--model.text_encoder.init_args.layers=2"]
    # What a command asks for itself stays, with the options of a class that it names.
    asked = {word.split("=")[0] for word in arguments if word.startswith("--")}
    return [*arguments, *(option for option in small if not asked & names_above(option.split("=")[0]))]


def names_above(option: str) -> set[str]:
    """Return the name of an option, such as --model.crop, and those of all that it belongs to."""
    return set(itertools.accumulate(option.split("."), "{}.{}".format))


def run_medvlp(arguments: list[str]) -> tuple[str, int]:
    """Run medvlp in this process; return what it prints, and its exit status."""
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    trained = Path("runs/checkpoints/last.ckpt")
    if arguments[:1] == ["fit"] and trained.is_file():
        # The name under which the documentation goes on with it.
        trained.replace("trained.ckpt")
    return printed.getvalue(), code


def rewrite(page: Path) -> None:
    """Write under each command of the console blocks of a page what it prints, but where a block leaves parts out."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.reason is None and block.language != "console":
            run(block)
        if block.language != "console" or block.reason or "..." in block.text:
            continue
        shown = [f"$ {line}\n{printed_by(line, block.place)}" for line, _ in shown_outputs(block.text)]
        text = text.replace(f"```console\n{block.text}\n```", "```console\n" + "\n".join(shown) + "\n```")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make_workplace(Path(temporary) / "work")
        for name in [Path(argument).resolve() for argument in sys.argv[1:]] or PAGES:
            copy = Path(temporary) / name.stem
            shutil.copytree(Path(temporary) / "work", copy, symlinks=True)
            os.chdir(copy)
            rewrite(name)
