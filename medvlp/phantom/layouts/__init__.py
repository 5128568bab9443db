"""The raw layouts of real data sets, a file for each `Layout`.

Tests and the demo prepare them in place of the real data.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from medvlp.phantom.files import Listing, write
from medvlp.phantom.images import Image
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Shot, Study
from medvlp.prepared import SYNTHETIC

# Modules of this package; each is a Layout.
NAMES: tuple[str, ...] = (
    "mimic_cxr",
    "chexpert",
    "nih",
    "rsna",
    "siim",
    "covidx",
    "object_cxr",
    "ms_cxr",
    "vindr",
    "chestx_det10",
    "chexlocalize",
    "chexpert_plus",
    "taix_ray",
    "open_i",
    "padchest",
    "padchest_gr",
    "mimic_cxr_dicom",
    "rexgradient",
    "candid_ptx",
)

# Rows by the name of their table.
Rows = Mapping[str, list[dict[str, object]]]
Pictures = list[tuple[Shot, Image]]


class Layout(Protocol):
    """A raw layout."""

    def begin(self, out: Path) -> Mapping[str, Listing]:
        """Write the files that do not depend on studies, and begin the tables.

        Args:
            out: Folder of the phantom, in which the layout has its own folders.
        """

    def write_study(self, out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
        """Write the files of a study and return its rows of the tables."""


def layout(name: str) -> Layout:
    """Return the layout of this name."""
    return cast(Layout, import_module(f"{__name__}.{name}"))


def write_mark(root: Path) -> None:
    """Mark a folder of images as synthetic."""
    write(root / SYNTHETIC, b"Drawn by medvlp phantom: these patients do not exist.\n")
