"""Pre-training objectives. A new one is a file here, a line below, and a YAML under experiments/."""

from medvlp.objectives.base import HeatMap, Objective
from medvlp.objectives.global_alignment import GlobalAlignment
from medvlp.objectives.hierarchical_alignment import HierarchicalAlignment
from medvlp.objectives.region_alignment import RegionAlignment
from medvlp.objectives.tag_decoding import TagDecoding

__all__ = ["GlobalAlignment", "HeatMap", "HierarchicalAlignment", "Objective", "RegionAlignment", "TagDecoding"]
