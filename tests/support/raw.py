"""Small raw folders of the data sets that `medvlp prepare` knows, from the phantom."""

from __future__ import annotations

import csv
import gzip
import shutil
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.phantom.layouts import NAMES
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepared import SYNTHETIC, Prepared

# The path arguments of front ends that have others than --root, and the folder of each below that of the phantom.
ARGUMENTS = {
    "mimic_cxr": {"images": "mimic-cxr-jpg/2.0.0", "reports": "mimic-cxr-reports"},
    "ms_cxr": {"root": "ms-cxr/1.1.0", "images": "mimic-cxr-jpg/2.0.0"},
}


@dataclass
class Raw:
    """The raw folder of one data set.

    Attributes:
        name: Its command.
        folder: All of its files are below.
        arguments: Its folders by argument of the command.
    """

    name: str
    folder: Path
    arguments: dict[str, Path]

    def prepare(self, out, **options):
        """Prepare the folder, and open the result."""
        command = COMMANDS[self.name]
        options = {"size": 32, "workers": 1, **options}
        if "regions" in signature(command).parameters:
            options["regions"] = "none"
        command(**self.arguments, out=out, **options)
        return Prepared.open(out)

    @property
    def tables(self):
        """Its csv tables and lists, packed or not."""
        folders = [folder for folder in self.arguments.values() if folder.is_dir()]
        paths = [path for folder in folders for path in sorted([*folder.iterdir(), *folder.glob("*/*")])]
        return [path for path in paths if {".csv", ".txt"} & {*path.suffixes} and path.name != SYNTHETIC]

    def image(self, row):
        """Return the image file of a row of the index."""
        (path,) = self.folder.rglob(row["path"].removeprefix("./"))
        return path


def read_lines(table):
    """Return the lines of a table, packed or not."""
    data = table.read_bytes()
    return (gzip.decompress(data) if table.suffix == ".gz" else data).decode().splitlines()


def write_lines(table, lines):
    """Write the lines of a table, packed or not."""
    data = "".join(f"{line}\n" for line in lines).encode()
    table.write_bytes(gzip.compress(data) if table.suffix == ".gz" else data)


def make_raw(name, phantom, folder):
    """Return the raw folder of a data set.

    Args:
        name: Its command.
        phantom: A phantom with all layouts.
        folder: Where it is written.
    """
    if name == "table":
        return make_table(folder)
    if name not in NAMES:
        pytest.skip(f"{name} has no layout in medvlp.phantom")
    places = ARGUMENTS.get(name) or {"root": import_module(f"medvlp.phantom.layouts.{name}").ROOT}
    for place in places.values():
        shutil.copytree(phantom / place, folder / place)
    return Raw(name, folder, {argument: folder / place for argument, place in places.items()})


class Table(Raw):
    """One's own table and images."""

    def prepare(self, out, **options):
        """Prepare the folder by the names of its columns, and open the result."""
        names = ("image", "findings", "impression", "patient")
        return super().prepare(out, **{**{name: name for name in names}, "labels": "Edema,Effusion", **options})

    @property
    def tables(self):
        """Its table, packed or not."""
        return sorted(self.arguments["table"].iterdir())


def make_table(folder):
    """Write twelve images of eight patients, with reports and two labels."""
    for name in ("images/first", "images/more", "tables"):
        (folder / name).mkdir(parents=True)
    rows = [["image", "patient", "findings", "impression", "Edema", "Effusion"]]
    for i in range(12):
        path = f"{'more' if i > 8 else 'first'}/image{i}.jpg"
        pixels = np.random.default_rng(i).integers(0, 255, (15, 10)).astype(np.uint8)
        Image.fromarray(pixels).resize((40, 60), Image.Resampling.BICUBIC).save(folder / "images" / path, quality=95)
        rows.append(
            [path, f"p{i % 8}", "The heart is normal.", "No effusion." if i % 2 else "", i % 2, ["", -1, 0][i % 3]]
        )
    with open(folder / "tables" / "table.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return Table("table", folder, {"table": folder / "tables", "images": folder / "images"})
