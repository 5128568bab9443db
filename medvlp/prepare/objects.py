"""Tables with a row for each object in an image, or one row that says that there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from medvlp.errors import LeftOutError
from medvlp.prepare.study import Skip

Item = TypeVar("Item")


def group_objects(
    rows: Iterable[tuple[str, tuple[str, ...]]], read: Callable[[Sequence[str]], Item | None], skip: Skip
) -> dict[str, list[Item] | None]:
    """Return the objects of each image, in the order of the table.

    Args:
        rows: Place, for messages, and fields of each row, the image being the first of them.
        read: Returns the object that the other fields give, or None if they say that there is none. Raises
            LeftOutError.
        skip: Called for each row that cannot be used, and for each image that has such rows.

    Returns:
        None for an image of which a row cannot be used: an object of it may be missing.
    """
    images: dict[str, list[Item]] = {}
    unusable: set[str] = set()
    for place, (image_id, *fields) in rows:
        if not image_id:
            skip(place, "unreadable row: no image")
            continue
        first = image_id not in images
        objects = images.setdefault(image_id, [])
        try:
            item = read(fields)
        except LeftOutError as error:
            skip(place, str(error))
            unusable.add(image_id)
            continue
        if item in objects or (item is None and not objects and not first):
            skip(place, "duplicate id")
        elif item is None and first:
            continue
        elif item is None or not (objects or first):
            skip(place, "unreadable row: contradicts one above it")
            unusable.add(image_id)
        else:
            objects.append(item)
    for image_id in images:
        if image_id in unusable:
            skip(image_id, "a row of it is unreadable")
    return {image_id: None if image_id in unusable else objects for image_id, objects in images.items()}
