"""Anatomical boxes of Chest ImaGenome scene graphs."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable

from medvlp.prepare.dataset import LeftOutError
from medvlp.prepare.files import ESCAPES, EscapesRootError, Store
from medvlp.prepare.images import Geometry

Region = tuple[str, float, float, float, float]

SUFFIX = "_SceneGraph.json"


def read_regions(store: Store, locator: str, geometry: Geometry, skip: Callable[[str, str], None]) -> list[Region]:
    """Return the boxes of one scene graph as (name, x1, y1, x2, y2) in pixels of the prepared image.

    Boxes are clipped to the image; boxes of one name are joined, in the place of the first.

    Args:
        store: Where the scene graphs are.
        locator: Which one.
        geometry: Of its image.
        skip: Called with the name of each box that cannot be used, and why.

    Raises:
        LeftOutError: If the scene graph is missing or unreadable.
    """
    try:
        objects = json.loads(store.read(locator))["objects"]
        named = [(str(item["bbox_name"]), item) for item in objects]
    except FileNotFoundError:
        raise LeftOutError("no scene graph") from None
    except EscapesRootError:
        raise LeftOutError(ESCAPES) from None
    except (ValueError, KeyError, TypeError, RecursionError, OSError, zlib.error):
        raise LeftOutError("unreadable scene graph") from None
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for name, item in named:
        try:
            x1, y1, x2, y2 = (float(item[f"original_{key}"]) for key in ("x1", "y1", "x2", "y2"))
        except (KeyError, TypeError, ValueError, OverflowError):
            skip(name, "unreadable box")
            continue
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            skip(name, "unreadable box")
        elif x1 >= x2 or y1 >= y2:
            skip(name, "empty box")
        elif x1 >= geometry.width or y1 >= geometry.height or x2 <= 0 or y2 <= 0:
            skip(name, "box outside the image")
        else:
            old = boxes.get(name, (x1, y1, x2, y2))
            boxes[name] = (min(x1, old[0]), min(y1, old[1]), max(x2, old[2]), max(y2, old[3]))
    return [
        (name, *geometry.box(max(x1, 0), max(y1, 0), min(x2, geometry.width), min(y2, geometry.height)))
        for name, (x1, y1, x2, y2) in boxes.items()
    ]
