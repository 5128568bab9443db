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
            elif x1 >= geometry.width or y1 >= geometry.height or x2 <= 0 or y2 <= 0:
                skip(name, "box outside the image")
            else:
                cut = (max(x1, 0), max(y1, 0), min(x2, geometry.width), min(y2, geometry.height))
                regions.append((name, *geometry.box(*cut)))
        return regions
