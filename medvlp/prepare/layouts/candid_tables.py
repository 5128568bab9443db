"""The tables of CANDID-PTX: a row for each object, and in the table of pneumothoraces the report of its image, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from medvlp.prepare.annotations.named_masks import read_code
from medvlp.prepare.annotations.objects import CONTRADICTION, group_objects
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import column_names, find_table, present_columns, read_table, require_table
from medvlp.tables import find_column

REPORTS, PNEUMOTHORAX = "Pneumothorax_reports", "Pneumothorax"
# Columns of it that some copies may lack.
EXTRA = ("StudyInstanceUID", "filename")
# Names of the table of each other label.
TABLES = {"Chest Tube": ("chest_tube",), "Rib Fracture": ("acute_rib_fracture", "Rib_fracture_mask_rle")}
LABELS = (PNEUMOTHORAX, *TABLES)
# Names of their columns with the image and with the code of an object.
COLUMNS = (("anon_SOPUID", "SOPInstanceUID", "ImageId"), ("mask_rle", "EncodedPixels"))


class Facts(NamedTuple):
    """The facts about an image beside its objects."""

    report: str
    study: str
    patient: str


@dataclass(frozen=True)
class Content:
    """What the tables say of each image.

    Attributes:
        facts: The facts about each image in the table of reports.
        codes: By label, the run-length codes of each image; None for an image with a row that cannot be used.
    """

    facts: Mapping[str, Facts]
    codes: Mapping[str, Mapping[str, list[str] | None]]

    def studies(self) -> dict[str, list[str]]:
        """Return the usable images of each study, in the order of the table of reports."""
        studies: dict[str, list[str]] = {}
        for uid in self.codes[PNEUMOTHORAX]:
            if all(of_label.get(uid, []) is not None for of_label in self.codes.values()):
                # Images of a study with different reports are studies of their own.
                study = self.facts[uid].study
                alike = study and self.facts[studies.get(study, [uid])[0]].report == self.facts[uid].report
                studies.setdefault(study if alike else uid, []).append(uid)
        return studies

    def codes_of(self, uid: str) -> dict[str, list[str]]:
        """Return the codes of a usable image by label."""
        return {label: of_label.get(uid) or [] for label, of_label in self.codes.items()}


class Tables:
    """The tables in a folder."""

    def __init__(self, root: Path, how: str) -> None:
        """Find them.

        Args:
            root: The folder.
            how: How to get the data, for the error.

        Raises:
            NotFoundError: If one is missing.
        """
        self.reports = require_table(root, REPORTS, how)
        self.objects: dict[str, Path] = {}
        for label, names in TABLES.items():
            name = next((name for name in names if find_table(root, name)), names[0])
            self.objects[label] = require_table(root, name, how)

    def read(self, skip: Skip) -> Content:
        """Read them.

        Args:
            skip: Called for each row that cannot be used, and for each image with such a row.

        Raises:
            UserError: If a column is missing or a file cannot be read.
        """
        facts: dict[str, Facts] = {}
        codes = {PNEUMOTHORAX: group_objects(self._read_reports(facts, skip), read_code, skip)}
        for label, table in self.objects.items():
            present = column_names(table)
            columns = [
                next((name for name in names if find_column(table, present, name) is not None), names[0])
                for names in COLUMNS
            ]
            codes[label] = group_objects(read_table(table, columns, skip), read_code, skip)
        return Content(facts, codes)

    def _read_reports(self, facts: dict[str, Facts], skip: Skip) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield image, code and fault of each row. `facts` gets the facts of each image."""
        extra = present_columns(self.reports, EXTRA)
        columns = ["SOPInstanceUID", "EncodedPixels", "Report", *extra]
        for place, (uid, code, report, *more) in read_table(self.reports, columns, skip):
            fields = dict(zip(extra, more, strict=True))
            # Files are named by their patient, P000001_... Without this column each image counts as one.
            patient = fields.get("filename", "").partition("_")[0] or uid
            fact = Facts(report, fields.get("StudyInstanceUID", ""), patient)
            same = facts.setdefault(uid, fact) == fact
            yield place, (uid, code, "" if same else CONTRADICTION)
