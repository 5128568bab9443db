"""Pre-training objectives. A new one is a file here, a line below, and a YAML under experiments/."""

from medvlp.objectives.base import Objective
from medvlp.objectives.hierarchical_alignment import HierarchicalAlignment

__all__ = ["HierarchicalAlignment", "Objective"]
