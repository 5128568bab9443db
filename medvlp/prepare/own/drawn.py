"""Boxes and masks of a table: columns of corners, lists of boxes, the file of COCO, and files of masks.

Source: the object detection format of https://cocodataset.org/#format-data, `bbox` being x, y, width, height.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.annotations.boxes import Boxes
from medvlp.prepare.annotations.masks import boxes_around, check_ratio, read_mask
from medvlp.prepare.own.labels import split_list
from medvlp.prepare.own.names import corner_columns, has_meaning, is_normal, spelling
from medvlp.prepare.own.profile import Profile
from medvlp.prepare.words import key, label_value

XYWH, XYXY = "xywh", "xyxy"
# Name of a box without a name.
OBJECT = "object"
# A number as German spreadsheets write it; 1,024 may be a thousand.
DECIMAL_COMMA = re.compile(r"^(-?\d+),(\d{1,2}|\d{4,})$")
Numbers = tuple[float, float, float, float]


@dataclass(frozen=True)
class Corners:
    """The columns of boxes.

    Attributes:
        columns: Four columns, or one of lists.
        form: xywh or xyxy.
        label: Column of the names; None without it.
        relative: Whether corners are shares of the image, 0 to 1.
    """

    columns: tuple[str, ...]
    form: str
    label: str | None
    relative: bool

    def read(self, row: Mapping[str, str]) -> list[Box] | None:
        """Return the boxes of a row, empty if its name says that there are none, None if it says nothing of boxes.

        Raises:
            LeftOutError: If it cannot be read.
        """
        fields = [row.get(name, "") for name in self.columns]
        label = row.get(self.label, "") if self.label else ""
        if not any(fields):
            return [] if is_normal(label) or not label or label_value(label) == 0 else None
        try:
            found = read_numbers(fields)
            names = _names(label, len(found))
            return [
                _box(name or own, numbers, form or self.form)
                for name, (own, numbers, form) in zip(names, found, strict=True)
            ]
        except ValueError:
            raise LeftOutError(f"unreadable row: box {','.join(fields)[:40]}") from None


def find_corners(profile: Profile, named: Sequence[str], form: str, label: str, asked: bool) -> Corners | None:
    """Return the columns of boxes of a table; None if it has none.

    Args:
        profile: The table.
        named: Four columns, or one or none of lists.
        form: The format of --box_format; empty if not given.
        label: Column of their names; none for no names, empty to find it.
        asked: Whether an option names them.

    Raises:
        UserError: If it cannot be told which columns they are, or in which format.
    """
    by_name = corner_columns(profile.columns)
    columns = tuple(named)
    if not columns and by_name:
        form = form or (XYXY if XYXY in by_name else XYWH)
        columns = tuple(by_name.get(form, ()))
    if not columns:
        return None
    if len(columns) not in (1, 4):
        raise UserError(f"--boxes names {len(columns)} columns: {', '.join(columns)}. Name four, or one of lists.")
    boxes = [numbers for row in profile.sample for numbers in _readable([row.get(name, "") for name in columns])]
    if not boxes:
        if asked:
            raise UserError(
                f"--boxes names {', '.join(columns)}, in which no box can be read: four numbers are needed."
            )
        return None
    own_forms = {own for *_, own in boxes}
    if not form and own_forms == {""}:
        form = next((f for f, names in by_name.items() if tuple(names) == columns), "") or _form_of(boxes)
    if not form and "" in own_forms:
        raise UserError(
            f"the boxes of {', '.join(columns)}, such as {list(boxes[0][1])}, may be x, y, width, height or x1, y1, "
            "x2, y2: say --box_format xywh or --box_format xyxy."
        )
    largest = max(abs(value) for _, numbers, _ in boxes for value in numbers)
    relative = largest <= 1 and any(value % 1 for _, numbers, _ in boxes for value in numbers)
    return Corners(columns, form or XYWH, None if label == "none" else label or _label(profile, columns), relative)


def _label(profile: Profile, columns: Sequence[str]) -> str | None:
    listed = [name for name, column in profile.columns.items() if column.filled and has_meaning(name, "label list")]
    return next((name for name in listed if name not in columns), None)


def _form_of(boxes: Sequence[tuple[str, Numbers, str]]) -> str:
    """Return the format of boxes if their numbers tell: x2 and y2 are never below x1 and y1."""
    return XYWH if any(c <= a or d <= b for _, (a, b, c, d), _ in boxes) else ""


def _readable(fields: Sequence[str]) -> list[tuple[str, Numbers, str]]:
    try:
        return read_numbers(fields) if any(fields) else []
    except ValueError:
        return []


def read_numbers(fields: Sequence[str]) -> list[tuple[str, Numbers, str]]:
    """Return name, numbers and format of each box in four fields, or in one; name and format may be empty.

    Raises:
        ValueError: If they hold something else.
    """
    if len(fields) == 4:
        return [("", _numbers(fields), "")]
    value: Any
    try:
        value = json.loads(fields[0])
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(fields[0])
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            # As in `10 20 30 40` and `1,2,3,4;5,6,7,8`.
            value = [part.replace(",", " ").split() for part in fields[0].split(";") if part.strip()]
    if isinstance(value, dict) or (
        isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple, dict))
    ):
        value = [value]
    items = value if isinstance(value, (list, tuple)) else [value]
    return [_item(item) for item in items]


def _item(item: Any) -> tuple[str, Numbers, str]:
    if not isinstance(item, dict):
        return "", _numbers(item), ""
    item = {str(name): value for name, value in item.items()}
    found = corner_columns(item)
    form = next(iter(found), "")
    names = [name for name in item if has_meaning(name, "label list") or key(name) == "name"]
    label = str(item[names[0]] or "") if names else ""
    if form:
        return label, _numbers([item[name] for name in found[form]]), form
    listed = next((item[name] for name in item if has_meaning(name, "boxes")), None)
    return label, _numbers(listed), ""


def _numbers(values: Any) -> Numbers:
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise ValueError("no four numbers")
    try:
        a, b, c, d = (float(DECIMAL_COMMA.sub(r"\1.\2", v) if isinstance(v, str) else v) for v in values)
    except (TypeError, OverflowError):
        raise ValueError("no numbers") from None
    if not math.isfinite(a + b + c + d):
        raise ValueError("no finite numbers")
    return a, b, c, d


def _box(name: str, numbers: Numbers, form: str) -> Box:
    a, b, c, d = numbers
    x2, y2 = (a + c, b + d) if form == XYWH else (c, d)
    if not (x2 > a and y2 > b):
        raise ValueError("no area")
    return Box(name or OBJECT, a, b, x2, y2)


def _names(label: str, count: int) -> list[str]:
    """Return the names of the boxes of a field: a list of as many, or one for all."""
    names = split_list(label) if label.startswith(("[", "(")) else [label] if label else []
    names = [spelling(name) for name in names]
    if len(names) == count:
        return names
    return names * count if len(names) == 1 else [""] * count


def read_coco(path: Path) -> dict[str, list[tuple[str, Numbers]]]:
    """Return the boxes of a file of COCO, as category and x, y, width, height, by the name of the image.

    Raises:
        NotFoundError: If it is not there.
        UserError: If it is no such file.
    """
    if not path.is_file():
        raise NotFoundError(f"--coco='{path}' is not there: a JSON file with images, annotations and categories.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        categories = {item["id"]: spelling(str(item["name"])) for item in content.get("categories", [])}
        boxes: dict[str, list[tuple[str, Numbers]]] = {name: [] for name in names.values()}
        for item in content["annotations"]:
            name = categories.get(item.get("category_id"), OBJECT)
            boxes[names[item["image_id"]]].append((name, _numbers(item["bbox"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--coco='{path}' is no readable file of COCO ({type(error).__name__}: {error}): it needs images with id "
            "and file_name, annotations with image_id, bbox and category_id, and categories with id and name."
        ) from error
    return boxes


@dataclass(frozen=True)
class Drawn:
    """The reader of boxes and of files of masks; see `medvlp.prepare.annotations.contract.AnnotationSource`.

    Attributes:
        root: Folder of the masks; None without masks.
        boxes: Reader of the boxes.
        label: Name of the boxes around the connected parts of a mask without boxes.
    """

    root: Path | None
    boxes: Boxes
    label: str

    @property
    def masks(self) -> bool:
        """Whether there are masks."""
        return self.root is not None

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the objects of an image: boxes as `annotations.boxes.boxes_text` has them, and the mask's file.

        Raises:
            LeftOutError: If the mask cannot be read, or is of another image.
        """
        content = json.loads(text)
        annotation = self.boxes.read(json.dumps(content["boxes"]), height, width)
        # Rounding, of annotated images of another size, too.
        x, y = (1.0, 1.0) if self.boxes.side is None else (max(1.0, width / 100), max(1.0, height / 100))
        if any(b.x1 < -x or b.y1 < -y or b.x2 > width + x or b.y2 > height + y for b in annotation.boxes):
            raise LeftOutError(f"box beyond the image; {self.boxes.advice}")
        if not self.root or not content["mask"]:
            return Annotation(annotation.boxes, np.zeros((height, width), np.bool_) if self.root else None)
        mask = read_mask(self.root, content["mask"], [os.path.realpath(self.root)])
        check_ratio(mask, height, width)
        return Annotation(annotation.boxes or boxes_around(mask, self.label, height, width), mask)
