"""Pre-training objectives, one file each, which projects features and calls `medvlp.losses`.

A new objective is a file in this folder and a YAML file under experiments/. Configs find its class without a list.
"""

from importlib import import_module
from pkgutil import iter_modules

from medvlp.objectives.base import HeatMap, Objective
from medvlp.objectives.global_alignment import GlobalAlignment
from medvlp.objectives.hierarchical_alignment import HierarchicalAlignment
from medvlp.objectives.region_alignment import RegionAlignment
from medvlp.objectives.shared_space import SharedSpace
from medvlp.objectives.tag_decoding import TagDecoding

__all__ = [
    "GlobalAlignment",
    "HeatMap",
    "HierarchicalAlignment",
    "Objective",
    "RegionAlignment",
    "SharedSpace",
    "TagDecoding",
]

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
