"""Tables with a row for each object in an image, or one row that states that the image has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from medvlp.errors import LeftOutError
from medvlp.prepare.study import Skip

Item = TypeVar("Item")

DUPLICATE = "duplicate id"
CONTRADICTION = "unreadable row: contradicts one above it"


def group_objects(
    rows: Iterable[tuple[str, tuple[str, ...]]], read: Callable[[Sequence[str]], Item | None], skip: Skip
) -> dict[str, list[Item] | None]:
    """Return the objects of each image, in the order of the table.

    Args:
        rows: Place, for messages, and fields of each row; the first field is the image.
        read: Returns the object of the other fields, or None if they state that there is none. Raises LeftOutError.
        skip: Called for each row that cannot be used, and for each image with such a row.

    Returns:
        Objects by image; None for an image with a row that cannot be used: one of its objects may be missing.
    """
    images: dict[str, list[Item]] = {}
    unusable: set[str] = set()
    for place, (image_id, *fields) in rows:
        if not image_id:
            skip(place, "unreadable row: no image")
            continue
        earlier = images.get(image_id)
        objects = images.setdefault(image_id, [])
        try:
            item = read(fields)
        except LeftOutError as error:
            skip(place, str(error))
            unusable.add(image_id)
            continue
        fault = _no_object(earlier) if item is None else _object(item, earlier)
        if fault is not None:
            skip(place, fault)
        elif item is not None:
            objects.append(item)
        if fault == CONTRADICTION:
            unusable.add(image_id)
    for image_id in images:
        if image_id in unusable:
            skip(image_id, "a row of it is unreadable")
    return {image_id: None if image_id in unusable else objects for image_id, objects in images.items()}


def _no_object(earlier: Sequence[Item] | None) -> str | None:
    """Return the fault of a row that states no object, given the objects of earlier rows; None if it is right."""
    if earlier is None:
        return None
    return CONTRADICTION if earlier else DUPLICATE


def _object(item: Item, earlier: Sequence[Item] | None) -> str | None:
    """Return the fault of a row with an object, given the objects of earlier rows; None if it is right."""
    if earlier is None or (earlier and item not in earlier):
        return None
    # An earlier row without an object states that the image has none.
    return DUPLICATE if earlier else CONTRADICTION
