"""What adding things costs: each addition is made in a copy of the checkout, counted, and run on tiny data.

`pytest -s tests/test_additions.py` prints the files and lines of each. Objectives, benchmarks and protocols are added
outside the copy, too, where they cost no file of it.
"""

import os
import shutil
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import make_prepared, options
from tests.support.trained import make_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

OBJECTIVE = '''"""Alignment of images with reports by a loss of pairs: each is a yes or a no of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.models import ImageEncoder, ProjectionHead, TextEncoder
from medvlp.objectives.base import Objective, section_mask
from medvlp.types import Batch, ImageFeatures, Section, TextFeatures


class PairAlignment(Objective):
    """Asks of each image and each report whether they belong together.

    Args:
        image_encoder: Gives the width.
        text_encoder: Likewise.
        dim: Dimension of the joint space.
        temperature: Temperature of the similarities.
    """

    sections = ("report",)

    def __init__(
        self, image_encoder: ImageEncoder, text_encoder: TextEncoder, dim: int = 16, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.image_head = ProjectionHead(image_encoder.width, dim, dim, sync=False)
        self.text_head = ProjectionHead(text_encoder.width, dim, dim, sync=False)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `pair`."""
        mask = section_mask("report", batch)
        x = self.embed_image(image)["report"].unflatten(0, batch["image"].shape[:2])[mask, 0]
        logits = x @ self.embed_text(text.sections["report"][mask]).T / self.temperature
        return {"pair": F.binary_cross_entropy_with_logits(logits, torch.eye(len(x), device=x.device))}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the embedding of pooled features, aligned with the report."""
        return {"report": F.normalize(self.image_head(image.pooled).float(), dim=1)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Project texts."""
        return F.normalize(self.text_head(text).float(), dim=1)
'''
PRE_TRAINING = """# Pairs of images and reports, on the encoders and the data of IMITATE.
base: imitate
model:
  init_args:
    objectives:
      pair:
        class_path: {}
"""
DATA_SET = '''"""Radiographs in one folder; a name ends in _1 for tuberculosis, in _0 for none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from medvlp.errors import NotFoundError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.splits import SplitVariant, mgca_split
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepared import Resize


def invented(root: Path, out: Path, size: int = 256, resize: Resize = "pad", workers: int | None = None) -> None:
    """Prepare the radiographs of a folder.

    Args:
        root: Folder of the images.
        out: Folder to write.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, or squash.
        workers: Number of processes; one a CPU core if not given.
    """
    prepare(Invented(root), out, Options(size, resize, ["FRONTAL"]), workers)


class Invented(DataSet):
    """The files."""

    splits = {"halves": SplitVariant("half is trained on; of the rest, half is test")}

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise NotFoundError(f"--root='{root}' is not there.")
        self.images = root
        self.real_images = [os.path.realpath(root)]
        self.labels = ["Tuberculosis"]
        self.options = {"dataset": "invented"}

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study."""
        paths = {path.stem: path for path in sorted(self.images.glob("*.png"))}
        self.rows = len(paths)
        split_of = mgca_split(list(paths), len(paths) // 2)
        for name, path in paths.items():
            yield Study(name, name, split_of[name], [Picture(name, "FRONTAL", path.name)], [int(name[-1])])
'''
SUMMARY = "Invented: AUROC of tuberculosis, linear probe."
BENCHMARK = f"""# {SUMMARY}
base: base/classification
trainer:
  callbacks+:
    class_path: SaveResults
    init_args:
      benchmark: NAME
model:
  init_args:
    labels: [Tuberculosis]
data:
  root: data/invented
"""
PROTOCOL = """# A finding against a normal radiograph.
name: plain
version: 1
source: ours
prompts:
  pairs:
    case: lower
    positive: ["{}"]
    negative: ["normal"]
pooling: embedding
score: pair
"""
COMMAND = '''"""The command `measure`: the size of a prepared folder."""

from __future__ import annotations

from pathlib import Path

from medvlp.prepared import Prepared


def measure(root: Path) -> None:
    """Print the number of images in a prepared folder.

    Args:
        root: The folder.
    """
    print(f"{len(Prepared.open(root).images)} images")
'''
COMMAND_LINE = '    "measure": Command("medvlp.inference.measure", "count prepared images", positional=True),\n'
TABLE = "COMMANDS = {\n"
# Files, and lines in files that were there, of each addition inside the checkout.
COSTS = {"objective": (2, 0), "data set": (1, 0), "benchmark": (1, 0), "protocol": (1, 0), "command": (1, 1)}


class Checkout:
    """A copy of the checkout to add things to."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("medvlp", "experiments", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        self.texts = self.read()

    def read(self):
        """Return the lines of the files in the copy, by path."""
        paths = (path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {str(p.relative_to(self.folder)): p.read_bytes().splitlines(keepends=True) for p in paths}

    def write(self, path, text):
        """Write a new file."""
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text)

    def count(self, what):
        """Check and print what an addition has cost since the last one."""
        before, self.texts = self.texts, self.read()
        new = {path: len(lines) for path, lines in self.texts.items() if path not in before}
        changed = {}
        for path, lines in before.items():
            if lines != self.texts[path]:
                texts = ([line.decode() for line in version] for version in (lines, self.texts[path]))
                changed[path] = sum(line[0] in "+-" for line in [*unified_diff(*texts, n=0)][2:])
        print(f"\n{what:<10}", ", ".join(f"{path} ({n} lines)" for path, n in {**new, **changed}.items()))
        assert (len(new), sum(changed.values())) == COSTS[what]

    def run(self, *command, cwd=None, path=()):
        """Run a command on the copy; return what it prints."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [self.folder, *path])), "WANDB_MODE": "offline"}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def medvlp(self, *words, cwd, path=()):
        """Run a command of medvlp in a folder."""
        return self.run(sys.executable, "-m", "medvlp", *map(str, words), cwd=cwd, path=path)

    def test(self, *words):
        """Run tests of the copy."""
        return self.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, cwd=self.folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with raw and prepared data, a language model, a checkpoint, and a package of one's own."""
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "tiny")
    make_checkpoint(folder)
    rng = np.random.default_rng(0)
    (folder / "raw").mkdir()
    for i in range(24):
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(folder / f"raw/image{i:02}_{i % 2}.png")
    (folder / "mylab").mkdir()
    (folder / "mylab/objectives.py").write_text(OBJECTIVE)
    (folder / "mine.yaml").write_text(PRE_TRAINING.format("mylab.objectives.PairAlignment"))
    (folder / "own.yaml").write_text(BENCHMARK.replace("NAME", "own"))
    (folder / "own_protocol.yaml").write_text(PROTOCOL)
    return folder


@pytest.mark.slow
def test_an_objective_is_one_file_and_one_yaml(checkout, place):
    checkout.write("medvlp/objectives/pair_alignment.py", OBJECTIVE)
    checkout.write("experiments/pair.yaml", PRE_TRAINING.format("PairAlignment"))
    checkout.count("objective")
    for config, path in (("pair", []), ("mine.yaml", [place])):
        tiny = options(place / "tiny", place / "bert")
        checkout.medvlp("fit", "-c", config, *tiny, "--trainer.fast_dev_run=true", cwd=place, path=path)


def test_a_data_set_is_one_file_and_a_benchmark_one_yaml(checkout, place):
    checkout.write("medvlp/prepare/datasets/invented.py", DATA_SET)
    checkout.count("data set")
    command = ["prepare", "invented", "--root", "raw", "--out", "data/invented", "--size", "40", "--workers", "1"]
    checkout.medvlp(*command, cwd=place)

    checkout.write("experiments/classification/invented.yaml", BENCHMARK.replace("NAME", "invented"))
    assert len(BENCHMARK.splitlines()) <= 20
    checkout.count("benchmark")
    assert f"make invented{' ' * 19}{SUMMARY}\n" in checkout.run(
        "make", "--no-print-directory", "help", cwd=checkout.folder
    )
    recipe = checkout.run(
        "make", "--no-print-directory", "--dry-run", "invented", "WEIGHTS=random", cwd=checkout.folder
    )
    assert recipe.splitlines()[-1].startswith('.venv/bin/medvlp benchmark --weights "random"')
    assert recipe.endswith(" invented\n")
    tiny = "--data.crop 32 --data.num_workers 0 --model.architecture test_resnet --trainer.max_epochs 1"
    tiny += " --trainer.accelerator cpu --trainer.precision 32-true --trainer.logger false"
    for name in ("invented", "own.yaml"):
        command = ["benchmark", name, "--weights", "random", "--fractions", "100", "--seeds", "0", "--args", tiny]
        assert f"{name.removesuffix('.yaml')} 100 % seed 0: auroc" in checkout.medvlp(*command, cwd=place)


def test_a_protocol_is_one_yaml(checkout, place):
    checkout.write("medvlp/protocols/plain.yaml", PROTOCOL)
    checkout.count("protocol")
    (weights,) = place.glob("*.ckpt")
    for protocol in ("plain", "own_protocol.yaml"):
        out = f"{protocol}.csv"
        command = ["predict", "raw", "--weights", weights, "--out", out, "--protocol", protocol, "--workers", "1"]
        checkout.medvlp(*command, cwd=place)
        header, *rows = (place / out).read_text().splitlines()
        assert "score/Cardiomegaly" in header
        assert len(rows) == 24


def test_a_command_is_one_file_and_one_line(checkout, place):
    checkout.write("medvlp/inference/measure.py", COMMAND)
    main = checkout.folder / "medvlp/__main__.py"
    text = main.read_text()
    assert TABLE in text
    main.write_text(text.replace(TABLE, TABLE + COMMAND_LINE))
    checkout.count("command")
    assert checkout.medvlp("measure", "tiny", cwd=place) == "48 images\n"
    assert "\n  measure   count prepared images\n" in checkout.medvlp("--help", cwd=place)


def test_the_tests_of_the_checkout_need_no_line(checkout):
    """After all additions: rooms and imports, and that every config is tested and has its target."""
    passed = checkout.test(
        "tests/test_layers.py",
        "tests/test_experiments.py::test_every_config_is_run_here",
        "tests/test_experiments.py::test_a_benchmark_is_short_and_has_a_line_and_a_name_of_its_own",
        "tests/benchmarks/test_command.py::test_make_has_a_target_and_a_line_for_each_benchmark",
        "tests/benchmarks/test_command.py::test_names_of_benchmarks",
        "tests/test_packaging.py::test_packages_are_the_folders_on_disk",
        "tests/trainer/test_command.py::test_help_lists_every_command",
    )
    assert "failed" not in passed
