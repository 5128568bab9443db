"""ReXGradient-160K: reports and images of 79 sites, from the unpacked tree or from the parts of its archive.

Zhang et al., ReXGradient-160K: A Large-Scale Publicly Available Dataset of Chest Radiographs with Free-text Reports,
2025, https://arxiv.org/abs/2505.00228. The data have no labels. The layout is known from descriptions: the archive
itself, the window of its compression, and all names of its views were not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from medvlp.prepare.archives.archive import find_archive
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import missing, real_paths
from medvlp.prepare.layouts.rexgradient_metadata import find_metadata, read_metadata
from medvlp.prepare.order import moment
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, RegionSource, finder, region_options
from medvlp.prepare.reports import read_report
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Skip, Study
from medvlp.prepare.views import ByScreening
from medvlp.prepare.words import read_text
from medvlp.prepared import Resize

HOW = (
    "Accept the terms at https://huggingface.co/datasets/rajpurkarlab/ReXGradient-160K, run 'hf download "
    "rajpurkarlab/ReXGradient-160K --repo-type dataset --local-dir ReXGradient-160K' and give that folder; the parts "
    "deid_png.part00 to 09 need not be unpacked. 'medvlp phantom --layouts rexgradient' writes a synthetic stand-in."
)
IMAGES = "deid_png"


def rexgradient(
    root: Path,
    out: Path,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP,FRONTAL",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare ReXGradient-160K: images and reports.

    The same command resumes an interrupted run.

    Args:
        root: Folder with 'metadata' and with the images: unpacked in 'deid_png', or in deid_png.part00 to 09, which are
            read as a stream.
        out: Folder to write, the --data.root of training.
        regions: Find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: Views to keep, separated by commas, such as PA,AP,LATERAL. Of an image without one the screening tells
            whether it is FRONTAL or LATERAL.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = ReXGradient(root, finder(regions))
    prepare(data, out, Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out)), workers)


class ReXGradient(DataSet):
    """The files of ReXGradient-160K."""

    # The splits have no documented sizes: they depend on the filter on views.
    documented = 273_004
    labels: tuple[str, ...] = ()
    # Some images have no view in the metadata.
    view_teller = ByScreening()

    def __init__(self, root: Path, regions: RegionSource | None) -> None:
        """Find all files.

        Args:
            root: Folder of the data set. Its content may lie in 'download', too.
            regions: Finder of the anatomical boxes; None if the preparation needs none.

        Raises:
            NotFoundError: If a file is missing.
        """
        folders = [root, root / "download"]
        self.tables = find_metadata(root, HOW)
        unpacked = next((folder for folder in folders if (folder / IMAGES).is_dir()), None)
        self.images = unpacked or root
        self.archive = None if unpacked else find_archive(folders, IMAGES)
        if unpacked is None and self.archive is None:
            raise missing(root, f"neither a folder '{IMAGES}' nor the parts {IMAGES}.part00 to 09", HOW)
        self.real_images = real_paths(self.images, self.images / IMAGES)
        self.splits = {"official": SplitVariant("the three metadata files")}
        self.regions = regions
        self.options = identity("rexgradient", root) | region_options(regions)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies and their images in the order of the files."""
        for split, study_id, entry, pictures in read_metadata(self, self.tables, skip):
            sections = {name.lower(): read_text(entry.get(name)) for name in ("Findings", "Impression")}
            report, order = partial(replace, read_report(sections)), moment(str(entry.get("StudyDate")))
            yield Study(study_id, str(entry["PatientID"]), split, pictures, [], report, order=order)
