"""JSON lists with an object for each image: `file_name`, `syms`, the finding of each box, and `boxes`, its corners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import read_corners
from medvlp.prepare.json_lists import read_objects
from medvlp.prepare.study import Skip

Boxed = dict[str, "list[Box] | None"]


def read_box_lists(paths: Mapping[str, Path], findings: Mapping[str, str], skip: Skip) -> tuple[Boxed, dict[str, str]]:
    """Return the boxes of each image, None for an unusable one, and its list.

    Args:
        paths: Lists by name. An image in several of them belongs to the first.
        findings: Name of each known finding by its word in the lists.
        skip: Called for each entry that cannot be used.

    Raises:
        UserError: If a list cannot be read.
    """
    boxes_of: Boxed = {}
    list_of: dict[str, str] = {}
    for part, path in paths.items():
        for place, entry in read_objects(path, skip):
            name = entry.get("file_name")
            if not (isinstance(name, str) and name):
                skip(place, "unreadable entry: file_name")
            elif name in boxes_of:
                skip(place, "duplicate id")
            else:
                list_of[name] = part
                try:
                    boxes_of[name] = _read_boxes(entry.get("syms"), entry.get("boxes"), findings)
                except LeftOutError as error:
                    skip(name, str(error))
                    boxes_of[name] = None
    return boxes_of, list_of


def _read_boxes(words: object, boxes: object, findings: Mapping[str, str]) -> list[Box]:
    """Return the boxes of an image.

    Raises:
        LeftOutError: If one cannot be read. The image is then left out: it would count as one without this object.
    """
    if not (isinstance(words, list) and isinstance(boxes, list) and len(words) == len(boxes)):
        raise LeftOutError("unreadable entry: syms or boxes")
    found = []
    for word, corners in zip(words, boxes, strict=True):
        if not isinstance(word, str) or word not in findings:
            raise LeftOutError(f"unreadable entry: finding '{word}'")
        try:
            found.append(Box(findings[word], *read_corners(corners, sized=False)))
        except ValueError as error:
            raise LeftOutError(f"unreadable entry: {error}") from None
    return found
