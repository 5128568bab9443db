"""The file of sentences of PadChest-GR, grounded_reports_20240819.json.

It is a list of studies, each with `StudyID`, `ImageID` and `findings`. A finding has `sentence_en`, `sentence_es`,
`abnormal`, and, if that is true, `labels` and `boxes`: left, top, right and bottom as shares of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box

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
