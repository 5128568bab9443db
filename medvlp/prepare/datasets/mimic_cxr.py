"""MIMIC-CXR: images of MIMIC-CXR-JPG or of MIMIC-CXR, reports of MIMIC-CXR, boxes of Chest ImaGenome 1.0.0.

Johnson et al., MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs, 2019,
https://arxiv.org/abs/1901.07042. Johnson et al., Scientific Data 6:317, 2019. Wu et al., Chest ImaGenome Dataset for
Clinical Reasoning, NeurIPS Datasets and Benchmarks 2021, https://arxiv.org/abs/2108.00316.

The versions 2.0.0 and 2.1.0 have the same images and reports. The tree of DICOM files and the table of radiologists'
labels are read as PhysioNet and public code describe them; the files were not seen.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from medvlp.errors import LeftOutError
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import ESCAPES, EscapesRootError, Store, locator, open_store, real_paths, require_folder
from medvlp.prepare.five_by_200 import CLASSES, candidates, draw
from medvlp.prepare.layouts.chexpert_table import LABEL_VALUES
from medvlp.prepare.layouts.mimic_tables import (
    RADIOLOGISTS,
    RECORDS,
    TABLE,
    Row,
    folder,
    image_suffix,
    read_labels,
    read_rows,
    read_splits,
)
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, RegionSource, SceneGraphs, finder, region_options
from medvlp.prepare.regions.scene_graphs import SUFFIX
from medvlp.prepare.reports import has_words, read_report
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, hash_rule
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepare.tables import column_names, decode, find_table, require_table
from medvlp.prepare.views import ByHeader
from medvlp.prepared import Resize

Labels = Literal["chexpert", "negbio", "radiologists", "none"]

STAND_IN = "'medvlp phantom' writes a synthetic stand-in that needs no credentials."
HOW = {
    "images": "Download MIMIC-CXR-JPG 2.0.0 or 2.1.0 from https://physionet.org/content/mimic-cxr-jpg/ (credentialed "
    "access) and give the folder that holds its csv tables and 'files'; or MIMIC-CXR with its DICOM files, and put "
    f"those tables beside its 'files'. {STAND_IN}",
    "reports": "Download mimic-cxr-reports.zip of MIMIC-CXR from https://physionet.org/content/mimic-cxr/ "
    f"(credentialed access) and give it, or the folder it unpacks to. {STAND_IN}",
    "scene_graphs": "Download silver_dataset/scene_graph.zip of Chest ImaGenome 1.0.0 from "
    "https://physionet.org/content/chest-imagenome/1.0.0/ (credentialed access) and give it, or the folder it "
    f"unpacks to, or leave the option away. {STAND_IN}",
}
OFFICIAL = SplitVariant("mimic-cxr-2.0.0-split.csv, by patient")
FIVE_BY_200 = SplitVariant(
    "test is drawn from all frontal images with a report, 200 with each of the five findings alone, or all there are, "
    "as from CheXpert by MGCA; train and validate are the official ones, without all images of the patients of test"
)
EXPERT = SplitVariant(
    "test is the studies that radiologists labelled, in version 2.1.0 of MIMIC-CXR-JPG, with their labels; train and "
    "validate are the official ones, without all images of the patients of test"
)
HASH = SplitVariant(f"{hash_rule('patient')}: the official table is not there")
FRONTAL = ("PA", "AP")


def mimic_cxr(
    images: Path,
    reports: Path,
    out: Path,
    scene_graphs: Path | None = None,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP",
    min_words: int = 3,
    labels: Labels = "chexpert",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare MIMIC-CXR: images, reports, labels and anatomical regions.

    The same command resumes an interrupted run.

    Args:
        images: Folder of MIMIC-CXR-JPG, with its csv tables and 'files'; or of MIMIC-CXR, with the DICOM files in
            'files', and those tables if possible. Without the table of metadata, the headers tell the views.
        reports: mimic-cxr-reports.zip of MIMIC-CXR, or the folder of its content.
        out: Folder to write, the --data.root of training.
        scene_graphs: scene_graph.zip of Chest ImaGenome 1.0.0, or a folder with it or with its content.
        regions: Without scene_graphs, find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: Values of ViewPosition to keep, separated by commas.
        min_words: Least number of words in a report, counted as by MGCA.
        labels: Table of automatic labels to use; radiologists for CheXpert's, and in the studies that radiologists
            labelled theirs (version 2.1.0), which are then a test set, the split `radiologists`.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    graphs = None if scene_graphs is None else open_graphs(scene_graphs)
    source = SceneGraphs(graphs) if graphs else finder(regions)
    data = MimicCxr(images, reports, graphs, source, labels, min_words)
    prepare(data, out, Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out)), workers)


def open_graphs(path: Path) -> Store:
    """Return the store of the scene graphs.

    Args:
        path: Zip archive or folder.

    Raises:
        NotFoundError: If the path does not exist.
    """
    below = [
        f"{folder}{name}"
        for folder in ("silver_dataset/", "1.0.0/silver_dataset/", "")
        for name in ("scene_graph", "scene_graph.zip")
    ]
    return open_store(path, "scene_graphs", below, HOW["scene_graphs"])


class MimicCxr(DataSet):
    """The raw files of MIMIC-CXR."""

    # The splits have no documented sizes: they depend on the filters on views and reports.
    documented = 377_110

    def __init__(
        self,
        images: Path,
        reports: Path,
        graphs: Store | None,
        regions: RegionSource | None,
        labels: Labels,
        min_words: int = 0,
    ) -> None:
        """Find all files.

        Args:
            images: Folder of MIMIC-CXR-JPG.
            reports: Zip archive or folder of the reports.
            graphs: Store of the scene graphs; None without them.
            regions: Finder of the anatomical boxes; None if the preparation needs none.
            labels: Name of the label table, or none.
            min_words: Least number of words in a report of 5x200.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.images = images
        # Often a link to a larger disk.
        files = images / "files"
        self.suffix = image_suffix(files)
        records = find_table(images, RECORDS) if self.suffix == ".dcm" else None
        self.has_views = records is None or find_table(images, TABLE.format("metadata")) is not None
        self.table = records if records and not self.has_views else self._table("metadata")
        self.view_teller = None if self.has_views else ByHeader()
        has_split = records is None or find_table(images, TABLE.format("split")) is not None
        self.split = self._table("split") if has_split else None
        by_radiologists = labels == "radiologists"
        self.label_table = None if labels == "none" else self._table("chexpert" if by_radiologists else labels)
        self.experts = self._table(RADIOLOGISTS) if by_radiologists else None
        require_folder(images, ["files"], HOW["images"], "images")
        self.real_images = real_paths(images, files)
        self.reports = open_store(
            reports, "reports", ["mimic-cxr-reports.zip", "mimic-cxr-reports/files", "files"], HOW["reports"]
        )
        self.graphs = graphs
        self.regions = regions
        ids = ("subject_id", "study_id")
        self.labels = [name for name in column_names(self.label_table) if name not in ids] if self.label_table else []
        self.splits = {"official": OFFICIAL} if self.split else {"hash": HASH}
        if self.experts:
            self.splits = {**self.splits, "radiologists": EXPERT}
        elif self.has_views and {*CLASSES} <= {*self.labels}:
            self.splits = {**self.splits, "5x200": FIVE_BY_200}
        self.min_words = min_words
        self.options = identity("mimic_cxr", images, labels=labels) | region_options(regions)
        if self.suffix == ".dcm":
            self.options["images"] = "DICOM"

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies by subject and study number, and their images by name."""
        splits = read_splits(self.split, skip) if self.split else None
        rows, orders = read_rows(self, self.table, self.has_views, splits, skip)
        values = read_labels(self.label_table, self.labels, skip) if self.label_table else {}
        unlabelled = bytes(len(self.labels))
        locate_report = locator(self.reports, lambda name: name.startswith("s") and name.endswith(".txt"), skip)
        locate_graph = locator(self.graphs, lambda name: name.endswith(SUFFIX), skip)

        def report_of(subject: int, study: int) -> Callable[[], Report]:
            return partial(self._read_report, locate_report(f"{folder(subject)}s{study}.txt"))

        _, *others = self.splits
        chosen = set()
        if self.experts:
            experts = read_labels(self.experts, self.labels, skip)
            values |= experts
            chosen = {image_id for _, study, _, image_id, _ in rows if study in experts}
            for study in sorted(experts.keys() - {study for _, study, *_ in rows}):
                skip(f"s{study}", "labelled by radiologists, but not in the table of images")
        elif others:
            chosen = self._draw(rows, values, report_of)
        apart = {subject for subject, *_, image_id, _ in rows if image_id in chosen}
        # All images of a patient are in one official split, but images of one study can be in different ones of 5x200.
        for (*ids, test), images in itertools.groupby(rows, lambda row: (*row[:3], row[3] in chosen)):
            subject, study, split = ids
            elsewhere = "" if subject in apart or split == "test" else split
            yield Study(
                study_id=str(study),
                subject_id=str(subject),
                split=split,
                pictures=[
                    Picture(
                        image_id=image_id,
                        view=view,
                        path=f"files/{folder(subject)}s{study}/{image_id}{self.suffix}",
                        graph=locate_graph(f"{image_id}{SUFFIX}"),
                    )
                    for *_, image_id, view in images
                ],
                labels=[LABEL_VALUES[value] for value in values.get(study, unlabelled)],
                report=report_of(subject, study),
                other_splits=dict.fromkeys(others, "test" if test else elsewhere),
                order=orders[study],
            )

    def _draw(
        self,
        rows: list[Row],
        values: Mapping[int, bytes],
        report_of: Callable[[int, int], Callable[[], Report]],
    ) -> set[str]:
        """Return the images of 5x200."""
        unlabelled = bytes(len(self.labels))
        frontal = {image_id: (subject, study) for subject, study, _, image_id, view in rows if view in FRONTAL}
        labelled = (
            (image_id, [LABEL_VALUES[value] for value in values.get(study, unlabelled)])
            for image_id, (_, study) in frontal.items()
        )

        def reported(image_id: str) -> bool:
            try:
                report = report_of(*frontal[image_id])()
            except LeftOutError:
                return False
            return bool(report.findings or report.impression) and has_words(
                report.findings, report.impression, self.min_words
            )

        alone = candidates(labelled, self.labels)
        return draw({name: [*filter(reported, images)] for name, images in alone.items()})

    def _table(self, name: str) -> Path:
        advice = " Or give --labels none." if name in ("chexpert", "negbio") else ""
        return require_table(
            self.images, name if name == RADIOLOGISTS else TABLE.format(name), HOW["images"] + advice, argument="images"
        )

    def _read_report(self, name: str | None) -> Report:
        if name is None:
            raise LeftOutError("no report")
        try:
            data = self.reports.read(name)
        except FileNotFoundError:
            raise LeftOutError("no report") from None
        except EscapesRootError:
            raise LeftOutError(f"report {ESCAPES}") from None
        except (OSError, ValueError, zlib.error):
            raise LeftOutError("unreadable report") from None
        text, utf8 = decode(data)
        if not text.strip():
            raise LeftOutError("empty report")
        return read_report({"": text}, utf8)
