"""The documentation as the tests read it: its pages, their code blocks, and a place in which their commands run.

`python -m tests.support.documents` runs the `console` blocks and writes what the commands print under them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from medvlp.__main__ import main
from medvlp.phantom import phantom
from medvlp.prepared import INDEX
from tests.support.tiny import make_language_model, options
from tests.support.trained import make_checkpoint

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
REASON = re.compile(r"<!-- not run: (.+) -->")

# Raw data sets by their folders in the documentation, and where the phantom draws a stand-in for them.
RAW = {
    "MIMIC-CXR-JPG": "mimic-cxr-jpg",
    "chest-imagenome": "chest-imagenome",
    "MS-CXR": "ms-cxr/1.1.0",
    "CheXpert-v1.0-small": "CheXpert-v1.0-small",
    "nih": "nih",
    "rsna": "rsna",
    "siim": "siim",
    "covidx": "covidx",
    "object-cxr": "object-cxr",
}
STUDIES, SIZE, PREPARED_SIZE, CROP = 80, 64, 48, 32
SMALL = (f"--size={PREPARED_SIZE}", "--workers=1")
# Commands that end only when they are stopped, or take minutes: their options are read, and nothing is done.
LONG = {"app", "bench", "demo", "regions"}
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


def make_workplace(folder: Path) -> None:
    """Fill a folder with everything that the documentation names: raw and prepared data, a checkpoint, images."""
    raw = folder / "raw"
    phantom(raw, studies=STUDIES, seed=1, size=SIZE, workers=1, layouts="all")
    for name, drawn in RAW.items():
        (folder / name).symlink_to(raw / drawn)
    with zipfile.ZipFile(folder / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted((raw / "mimic-cxr-reports").rglob("*.txt")):
            archive.write(path, path.relative_to(raw / "mimic-cxr-reports"))
    images, reports = folder / "MIMIC-CXR-JPG" / "2.0.0", folder / "mimic-cxr-reports.zip"
    graphs = f"--scene_graphs={folder / 'chest-imagenome'}"
    data = folder / "data"
    main(["prepare", "mimic_cxr", f"--images={images}", f"--reports={reports}", graphs, f"--out={data}/mimic_cxr", *SMALL])
    main(["prepare", "ms_cxr", f"--root={folder / 'MS-CXR'}", f"--images={images}", f"--out={data}/ms_cxr", *SMALL])
    for name in ("chexpert", "nih", "rsna", "siim", "covidx", "object_cxr"):
        root = {"chexpert": "CheXpert-v1.0-small", "object_cxr": "object-cxr"}.get(name, name)
        main(["prepare", name, f"--root={folder / root}", f"--out={data / name}", *SMALL])
    make_open_i(folder / "open_i", data / "mimic_cxr")
    main(["prepare", "open_i", f"--root={folder / 'open_i'}", f"--out={data / 'open_i'}", *SMALL])
    make_language_model(folder / "bert", vocabulary(data / "mimic_cxr"))
    checkpoints = folder / "runs" / "medvlp" / "ID" / "checkpoints"
    checkpoints.mkdir(parents=True)
    made = make_checkpoint(folder, ("hierarchical", "report", "region", "tag"), PREPARED_SIZE, CROP)
    shutil.copy(made, folder / "last.ckpt")
    made.rename(checkpoints / "last.ckpt")
    (folder / "scans").mkdir()
    jpeg = next(iter(sorted((raw / "mimic-cxr-jpg").rglob("*.jpg"))))
    grey = cv2.imread(str(jpeg), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "scans" / "a.png"), np.kron(grey, np.ones((4, 4), np.uint8)))
    shutil.copy(folder / "scans" / "a.png", folder / "b.png")
    dicom = next(iter(sorted((raw / "rsna").rglob("*.dcm"))))
    for name in ("chest.dcm", "a.dcm"):
        shutil.copy(dicom, folder / name)


def make_open_i(root: Path, prepared: Path) -> None:
    """Write the csv layout of Open-I with the images and reports of a prepared folder."""
    (root / "images").mkdir(parents=True)
    rows = pq.read_table(prepared / INDEX).to_pylist()
    images = np.load(prepared / "images.npy", mmap_mode="r")
    reports, projections = ["uid,MeSH,Problems,findings,impression"], ["uid,filename,projection"]
    for number, row in enumerate(rows, 1):
        cv2.imwrite(str(root / "images" / f"{number}.png"), images[row["row"]])
        problem = "Cardiomegaly" if row["label/Cardiomegaly"] == 1 else "normal"
        texts = [" ".join((row[name] or "").split()).replace('"', "") for name in ("findings", "impression")]
        reports.append(f'{number},{problem},{problem},"{texts[0]}","{texts[1]}"')
        projections.append(f"{number},{number}.png,Frontal")
    (root / "indiana_reports.csv").write_text("\n".join(reports) + "\n")
    (root / "indiana_projections.csv").write_text("\n".join(projections) + "\n")


def vocabulary(prepared: Path) -> list[str]:
    """Return the words of the reports of a prepared folder."""
    texts = pq.read_table(prepared / INDEX, columns=["findings", "impression"]).to_pylist()
    spelt = {word for row in texts for text in row.values() for word in re.findall(r"\w+|[^\w\s]", (text or "").lower())}
    return sorted({*spelt, "left", "right", "pleural", "effusion", "cardiomegaly", "no", ".", ","})


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
        exec(compile(f"{chr(10) * (block.line - 1)}{block.text}", block.place, "exec"), {"__name__": "__main__"})
    elif block.language == "sh":
        for line in command_lines(block.text):
            printed, code = run_line(line, block.place)
            assert code == 0, f"{block.place}: {line}\n{printed}"
    elif block.language == "console":
        for line, shown in shown_outputs(block.text):
            printed = " ".join(printed_by(line, block.place).split())
            parts = [" ".join(part.split()) for part in shown.split("...")]
            pattern = ".*".join(map(re.escape, parts))
            assert re.search(pattern, printed), f"{block.place}: {line}\nshows\n{shown}\nand prints\n{printed}"


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
        ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), *command[1:]], capture_output=True, text=True
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
    verb, configs = arguments[0], [b for a, b in zip(arguments, arguments[1:], strict=False) if a in ("-c", "--config")]
    if verb in LONG:
        return [*arguments, "--print_config"]
    if verb == "benchmark" and not arguments[1].startswith(AS_IT_IS):
        return [*arguments, "--print_config"]
    if verb == "phantom":
        return [*arguments, "--studies=24", f"--size={SIZE}", "--workers=1"]
    if verb == "prepare" and "--out" in arguments:
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
    # What a command asks for itself stays.
    asked = {word.split("=")[0] for word in arguments}
    return [*arguments, *(option for option in small if option.split("=")[0] not in asked)]


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
        # The documentation goes on with the checkpoint that it has just trained.
        trained.replace("last.ckpt")
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
