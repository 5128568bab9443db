"""Images that several readers annotated: the majority, and one box in place of the boxes around the same thing."""

from __future__ import annotations

from collections.abc import Iterable

from medvlp.prepare.annotations import Box

READERS, MAJORITY = 3, 2
# Least intersection over union of boxes around the same thing.
OVERLAP = 0.5


def majority(votes: int, readers: int) -> int | None:
    """Return whether two of three readers see a finding: 1 or 0; None if it depends on readers who are missing.

    Args:
        votes: Number of readers who see it.
        readers: Number of readers.
    """
    if votes >= MAJORITY:
        return 1
    return 0 if votes + max(READERS - readers, 0) < MAJORITY else None


def fuse(boxes: Iterable[Box]) -> list[Box]:
    """Return the boxes with those around the same thing fused to their mean.

    As in weighted boxes fusion (Solovyev et al., Image and Vision Computing 107, 2021), with equal weights: in their
    order, each box joins the fused box of its name that it overlaps most, if by more than OVERLAP, or begins a new one.
    """
    groups: list[list[Box]] = []
    fused: list[Box] = []
    for box in boxes:
        overlaps = [overlap(box, other) if box.name == other.name else 0.0 for other in fused]
        best = max(range(len(fused)), key=overlaps.__getitem__, default=-1)
        if best >= 0 and overlaps[best] > OVERLAP:
            groups[best].append(box)
            fused[best] = _mean(groups[best])
        else:
            groups.append([box])
            fused.append(box)
    return fused


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _mean(boxes: list[Box]) -> Box:
    x1, y1, x2, y2 = (sum(values) / len(boxes) for values in zip(*(box[1:5] for box in boxes), strict=True))
    return boxes[0].at(x1, y1, x2, y2)
