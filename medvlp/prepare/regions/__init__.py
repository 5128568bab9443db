"""The sources of anatomical boxes: Chest ImaGenome scene graphs, or the image itself.

A source is a class with one method, a `RegionSource`.
"""

from typing import Literal

from medvlp.prepare.regions.automatic import Automatic
from medvlp.prepare.regions.scene_graphs import SceneGraphs
from medvlp.prepare.regions.source import Region, RegionSource, joined
from medvlp.prepare.regions.square import Square

__all__ = ["Automatic", "Region", "RegionSource", "Regions", "SceneGraphs", "Square", "joined"]

# Values of the command line option, which counts if there are no scene graphs.
Regions = Literal["automatic", "none"]
