"""The table of CheXpert Plus: its studies, their images, and their reports, kept on disk; and the labels of reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import NotFoundError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import missing
from medvlp.prepare.layouts.chexpert_table import LABEL_BYTES, LABEL_VALUES, LABELS, image_name
from medvlp.prepare.reports import read_report
from medvlp.prepare.study import Report, Skip
from medvlp.prepare.tables import read_table, require_version
from medvlp.prepare.text_file import TextFile

TABLE = "df_chexpert_plus_*.csv"
SECTIONS = ["section_findings", "section_impression"]
COLUMNS = ["path_to_image", "frontal_lateral", "split", *SECTIONS]
# What the reports are, for the manifest.
TEXT = " and ".join(SECTIONS)
SPLITS = {"train": "train", "valid": "validate"}
# What tables and JSON hold in place of nothing.
NOTHING = {"", "nan", "none", "null"}


@dataclass
class ReportedStudy:
    """A study of the table.

    Attributes:
        name: For example patient00001/study1.
        split: train or validate.
        text: Position of its report in the file of texts.
        digest: Of its report.
        images: Name and view of each image.
    """

    name: str
    split: str
    text: int
    digest: bytes
    images: list[tuple[str, str]] = field(default_factory=list)

    @property
    def patient(self) -> str:
        """The patient."""
        return self.name.partition("/")[0]


class ReportTable:
    """The studies of a table, in its order, and their reports."""

    def __init__(self, data: DataSet, path: Path, skip: Skip) -> None:
        """Read the table.

        Args:
            data: The data set, which counts the rows.
            path: The table.
            skip: Called for each row that cannot be used.
        """
        self._texts = TextFile()
        self._studies: dict[str, ReportedStudy] = {}
        ids: set[str] = set()
        for place, (name, view, split, *texts) in data.counted_rows(path, COLUMNS, skip):
            image_id = image_name(name)
            parts = image_id.split("/")
            if len(parts) != 4 or not all(parts):
                skip(place, "unreadable row: path_to_image")
            elif image_id in ids:
                skip(place, "duplicate id")
            elif split not in SPLITS:
                skip(place, f"unreadable row: split '{split}'")
            elif fault := self._add(f"{parts[1]}/{parts[2]}", SPLITS[split], texts, (image_id, view.upper())):
                skip(place, fault)
            else:
                ids.add(image_id)

    def __iter__(self) -> Iterator[ReportedStudy]:
        """Yield the studies."""
        return iter(self._studies.values())

    def _add(self, name: str, split: str, texts: Sequence[str], image: tuple[str, str]) -> str | None:
        """Add an image to its study; return why it cannot be."""
        present = ["" if text.strip().lower() in NOTHING else text for text in texts]
        digest = hashlib.blake2b("\0".join(present).encode(), digest_size=8).digest()
        study = self._studies.get(name)
        if study is None:
            study = self._studies[name] = ReportedStudy(name, split, self._texts.add(present), digest)
        elif study.digest != digest:
            return "unreadable row: another report than above in its study"
        elif study.split != split:
            return "unreadable row: another split than above in its study"
        study.images.append(image)
        return None

    def read(self, study: ReportedStudy) -> Report:
        """Return the report of a study."""
        findings, impression = self._texts.read(study.text)
        return read_report({"findings": findings, "impression": impression})


def find_files(root: Path, section: str, train_csv: Path | None, how: str) -> tuple[Path, Path]:
    """Return the table of CheXpert Plus, the latest one of several, and the file of the labels of a section.

    Raises:
        NotFoundError: If one of them is missing, or train_csv, unless the section is none.
    """
    table = require_version(root, [TABLE], how)
    labels = root / "chexbert_labels" / f"{section}_fixed.json"
    if section != "none" and not labels.is_file():
        raise missing(root, f"no chexbert_labels/{labels.name}", f"{how} Or give --labels none.")
    if train_csv is not None and not train_csv.is_file():
        raise NotFoundError(f"--train_csv='{train_csv}' is not there: the table of CheXpert, or leave it away.")
    return table, labels


def read_labels(path: Path, skip: Skip) -> dict[str, list[int | None]]:
    """Return a value for each of LABELS by image.

    Args:
        path: JSON lines with path_to_image and the labels: 1, 0, -1 or null.
        skip: Called for each line that cannot be used.
    """
    labels: dict[str, list[int | None]] = {}
    known: dict[bytes, list[int | None]] = {}
    for place, (name, *fields) in read_table(path, ["path_to_image", *LABELS], skip):
        try:
            values = bytes(LABEL_BYTES["" if field.lower() in NOTHING else field] for field in fields)
        except KeyError as error:
            skip(place, f"unreadable row: label {error}")
            continue
        # Many images have the same values: one list serves them all.
        row = known.setdefault(values, [LABEL_VALUES[value] for value in values])
        if labels.setdefault(image_name(name), row) is not row:
            skip(place, "duplicate id")
    return labels
