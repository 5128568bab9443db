"""The sources of anatomical boxes: Chest ImaGenome scene graphs, or the image itself.

A source is a class with one method, a `RegionSource`.
"""

from medvlp.prepare.regions.automatic import Automatic, Regions, finder
from medvlp.prepare.regions.scene_graphs import SceneGraphs
from medvlp.prepare.regions.source import Region, RegionSource, joined, region_options
from medvlp.prepare.regions.square import Square

__all__ = [
    "Automatic",
    "Region",
    "RegionSource",
    "Regions",
    "SceneGraphs",
    "Square",
    "finder",
    "joined",
    "region_options",
]
