"""Anatomical boxes of Chest ImaGenome scene graphs."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass

from medvlp.errors import LeftOutError
from medvlp.prepare.files import ESCAPES, EscapesRootError, Store
from medvlp.prepare.regions.source import Region
from medvlp.prepare.regions.square import Square
from medvlp.prepare.study import Picture, Skip

SUFFIX = "_SceneGraph.json"


@dataclass(frozen=True)
class SceneGraphs:
    """The boxes of Chest ImaGenome.

    Attributes:
        store: Folder or archive of the scene graphs; `Picture.graph` is the locator of an image's.
        name: Name of the source in the manifest.
    """

    store: Store
    name: str = "scene graphs"

    def find(self, picture: Picture, square: Square, skip: Skip) -> list[Region]:
        """Return the boxes of a scene graph, cut to the image; see `RegionSource.find`."""
        geometry = square.geometry
        left, top, right, bottom = geometry.shown
        if picture.graph is None:
            raise LeftOutError("no scene graph")
        try:
            objects = json.loads(self.store.read(picture.graph))["objects"]
            named = [(str(item["bbox_name"]), item) for item in objects]
        except FileNotFoundError:
            raise LeftOutError("no scene graph") from None
        except EscapesRootError:
            raise LeftOutError(f"scene graph {ESCAPES}") from None
        except (ValueError, KeyError, TypeError, RecursionError, OSError, zlib.error):
            raise LeftOutError("unreadable scene graph") from None
        regions: list[Region] = []
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
            elif x1 >= right or y1 >= bottom or x2 <= left or y2 <= top:
                skip(name, "box outside the image")
            else:
                cut = (max(x1, left), max(y1, top), min(x2, right), min(y2, bottom))
                regions.append((name, *geometry.box(*cut)))
        return regions
