"""The file of sentences of PadChest-GR, grounded_reports_20240819.json.

It is a list of studies, each with `StudyID`, `ImageID` and `findings`. A finding has `sentence_en`, `sentence_es`,
`abnormal`, and, if that is true, `labels` and `boxes`: left, top, right and bottom as shares of the image.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.objects import DUPLICATE
from medvlp.prepare.json_lists import read_objects
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import require_version

Language = Literal["en", "es"]
# Rounding may put a box beyond the image by this share of it.
BEYOND = 0.01


def present(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the labels of the abnormal sentences of a study."""
    findings = entry.get("findings")
    for finding in findings if isinstance(findings, list) else ():
        if isinstance(finding, dict) and finding.get("abnormal"):
            names = finding.get("labels")
            for name in names if isinstance(names, list) else ():
                if isinstance(name, str) and name.strip():
                    yield name.strip()


class Entry(NamedTuple):
    """The sentences of an image.

    Attributes:
        image_id: The image.
        study: Its study.
        sentences: What is said of it, a sentence for each finding.
        boxes: Boxes of the sentences, as shares of the image.
        labels: Labels of its abnormal sentences.
    """

    image_id: str
    study: str
    sentences: list[str]
    boxes: list[Box]
    labels: set[str]


class Sentences:
    """The file, which is read as a whole.

    Attributes:
        labels: All labels of abnormal sentences, in alphabetical order.
        rows: Number of entries, those that cannot be read included.
    """

    def __init__(self, root: Path, pattern: str, how: str) -> None:
        """Find and read it.

        Args:
            root: Folder that holds it.
            pattern: Its name with * for the date; the last of several files counts.
            how: How to get the data, for the error.

        Raises:
            NotFoundError: If it is missing.
            UserError: If it cannot be read.
        """
        path = require_version(root, [pattern], how)
        self._faults: list[tuple[str, str]] = []
        self._entries = [*read_objects(path, lambda place, reason: self._faults.append((place, reason)))]
        self.labels = sorted({name for _, entry in self._entries for name in present(entry)})
        self.rows = len(self._entries) + len(self._faults)

    def images(self, language: Language, studies: Container[str], skip: Skip) -> Iterator[Entry]:
        """Yield the images in the order of the file.

        Args:
            language: Language of the sentences.
            studies: Studies that the table of splits knows.
            skip: Called for each entry that cannot be used.
        """
        for fault in self._faults:
            skip(*fault)
        ids: set[str] = set()
        for place, entry in self._entries:
            image_id, study = entry.get("ImageID"), entry.get("StudyID")
            if not (isinstance(image_id, str) and image_id and study):
                skip(place, "unreadable entry: ImageID or StudyID")
            elif image_id in ids:
                skip(place, DUPLICATE)
            elif str(study) not in studies:
                skip(image_id, "not in the split table")
            else:
                ids.add(image_id)
                try:
                    sentences, boxes = read_findings(entry, language)
                except LeftOutError as error:
                    skip(image_id, str(error))
                    continue
                yield Entry(image_id, str(study), sentences, boxes, {*present(entry)})


def read_findings(entry: Mapping[str, Any], language: Language) -> tuple[list[str], list[Box]]:
    """Return the sentences of a study, and their boxes as shares of the image.

    Raises:
        LeftOutError: If a sentence or a box cannot be read: the image would seem to have less than it has.
    """
    sentences, boxes = [], []
    findings = entry.get("findings")
    for finding in findings if isinstance(findings, list) else [{}]:
        finding = finding if isinstance(finding, dict) else {}
        text = finding.get(f"sentence_{language}")
        if not isinstance(text, str) or not text.strip():
            raise LeftOutError(f"unreadable row: a finding without sentence_{language}")
        sentence = " ".join(text.split())
        sentences.append(sentence if sentence.endswith(".") else f"{sentence}.")
        name = next(present({"findings": [finding]}), "finding")
        drawn = finding.get("boxes") or []
        if not isinstance(drawn, list):
            raise LeftOutError("unreadable row: a box")
        boxes += [Box(name, *_corners(box), phrase=sentence.rstrip(".")) for box in drawn]
    return sentences, boxes


def _corners(box: Sequence[Any]) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError):
        raise LeftOutError("unreadable row: a box") from None
    # Not a number is in no range.
    if not (-BEYOND <= x1 < x2 <= 1 + BEYOND and -BEYOND <= y1 < y2 <= 1 + BEYOND):
        raise LeftOutError("unreadable row: a box")
    return x1, y1, x2, y2
