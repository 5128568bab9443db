"""Boxes of anatomical regions: where they come from, and how they are written.

A source of boxes is one class with one method, a `RegionSource`.
"""

from typing import Literal

from medvlp.prepare.regions.automatic import Automatic
from medvlp.prepare.regions.scene_graphs import SceneGraphs
from medvlp.prepare.regions.source import Region, RegionSource, joined

__all__ = ["Automatic", "Region", "RegionSource", "Regions", "SceneGraphs", "joined"]

# What the command line offers where no scene graphs are given.
Regions = Literal["automatic", "none"]
