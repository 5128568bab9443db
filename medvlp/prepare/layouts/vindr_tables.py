"""The tables of VinDr-CXR: findings and boxes of each reader, or of the consensus of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import read_corners
from medvlp.prepare.annotations.objects import CONTRADICTION, DUPLICATE
from medvlp.prepare.annotations.readers import fuse, majority
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import column_names, read_table

# Findings with boxes that the challenge has, the others with boxes, and those without.
CHALLENGE = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)
OTHERS = (
    "Clavicle fracture",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Rib fracture",
)
NO_FINDING = "No finding"
BOXED = (*CHALLENGE, *OTHERS)
FINDINGS = (*BOXED, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", NO_FINDING)
# The table of test has another name for one of them.
IN_TEST = {"Other diseases": "Other disease"}
CORNERS = ("x_min", "y_min", "x_max", "y_max")
VALUES = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1}


def label_of(finding: str) -> str:
    """Return the label of a finding, written as those of the other data sets."""
    words = finding.replace("/", " or ").split()
    return " ".join(word if word == "or" else word[0].upper() + word[1:] for word in words)


# Labels by finding.
LABELS = {finding: label_of(finding) for finding in FINDINGS}


@dataclass
class Reading:
    """What readers say of an image.

    Attributes:
        consensus: Whether they agreed on one reading, which then has no readers.
        readers: What each of them says of FINDINGS; empty where the boxes say it.
        votes: Number of readers who see a finding, by finding.
        boxes: Their boxes, each with its finding, in pixels of the image.
        usable: Whether all rows about the image could be read.
    """

    consensus: bool
    readers: dict[str, bytes] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    boxes: list[Box] = field(default_factory=list)
    usable: bool = True

    def label(self, finding: str) -> int | None:
        """Return whether the readers see a finding, by consensus or by majority; None if it cannot be said."""
        votes = self.votes[finding]
        return int(votes > 0) if self.consensus else majority(votes, len(self.readers))

    def labelled_boxes(self) -> list[Box]:
        """Return the boxes with their labels: of the consensus, or of the findings that the majority sees, fused."""
        boxes = self.boxes if self.consensus else fuse(box for box in self.boxes if self.label(box.name))
        return [box._replace(name=LABELS[box.name]) for box in boxes]


Readings = dict[str, Reading]


def read_labels(table: Path, consensus: bool, readings: Readings, skip: Skip) -> None:
    """Add the findings of a table: a row for each image and reader, or for each image.

    Args:
        table: The table.
        consensus: Whether its rows are of the consensus, and name no reader.
        readings: What is known of the images of this table, to be added to. Other images are new.
        skip: Called for each row that cannot be used.
    """
    known = column_names(table)
    columns = [IN_TEST.get(name, name) if consensus else name for name in FINDINGS]
    columns = [
        name if column not in known and name in known else column
        for name, column in zip(FINDINGS, columns, strict=True)
    ]
    for place, image_id, reader, fields in _rows(table, columns, consensus, skip):
        reading = readings.setdefault(image_id, Reading(consensus))
        if unknown := [text for text in fields if text not in VALUES]:
            skip(place, f"unreadable row: label '{unknown[0]}'")
            reading.usable = False
            continue
        found = bytes(VALUES[text] for text in fields)
        if reader not in reading.readers:
            reading.readers[reader] = found
            reading.votes.update(name for name, value in zip(FINDINGS, found, strict=True) if value)
        elif reading.readers[reader] == found:
            skip(place, DUPLICATE)
        else:
            skip(place, CONTRADICTION)
            reading.usable = False


def read_boxes(table: Path, consensus: bool, readings: Readings, skip: Skip, labels: bool = False) -> None:
    """Add the boxes of a table, which has a row without a box for a reader who sees none.

    Args:
        table: The table.
        consensus: Whether its rows are of the consensus, and name no reader.
        readings: What is known of the images.
        skip: Called for each row that cannot be used.
        labels: Whether the table is that of the challenge, which is the only one: then it tells the findings, too.
    """
    seen: set[tuple[str, ...]] = set()
    for place, image_id, reader, (finding, *corners) in _rows(table, ("class_name", *CORNERS), consensus, skip):
        if labels:
            readings.setdefault(image_id, Reading(consensus)).readers[reader] = b""
        row = (image_id, reader, finding, *corners)
        if row in seen:
            skip(place, DUPLICATE)
            continue
        seen.add(row)
        if image_id not in readings:
            skip(place, "box of an unknown image")
            continue
        reading = readings[image_id]
        try:
            box = read_box(finding, corners)
        except LeftOutError as error:
            skip(place, str(error))
            reading.usable = False
            continue
        reading.boxes += [box] if box else []
        # A reader may draw several boxes of one finding.
        if labels and (image_id, reader, finding) not in seen:
            seen.add((image_id, reader, finding))
            reading.votes[finding] += 1


def read_box(finding: str, corners: Sequence[str]) -> Box | None:
    """Return the box of a row; None for a row that states no finding.

    Raises:
        LeftOutError: If it is neither.
    """
    if finding == NO_FINDING:
        return None
    if finding not in BOXED:
        raise LeftOutError(f"unreadable row: finding '{finding}'")
    try:
        return Box(finding, *read_corners(corners, sized=False))
    except ValueError as error:
        raise LeftOutError(f"unreadable row: {error}") from None


def _rows(
    table: Path, columns: Sequence[str], consensus: bool, skip: Skip
) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yield the place, the image, the reader and the other columns of each row."""
    first = ("image_id",) if consensus else ("image_id", "rad_id")
    for place, fields in read_table(table, (*first, *columns), skip):
        image_id, reader = (fields[0], "consensus") if consensus else fields[:2]
        if image_id and reader:
            yield place, image_id, reader, fields[len(first) :]
        else:
            skip(place, "unreadable row: image_id or rad_id")
