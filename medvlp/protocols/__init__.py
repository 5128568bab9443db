"""Zero-shot protocols: prompts, scores and thresholds, one YAML file each.

The code here reads and applies them. A new protocol is one YAML file, here or in any other folder.
"""

from medvlp.protocols.prompts import Prompts, Sides
from medvlp.protocols.protocol import Protocol
from medvlp.protocols.scoring import standardise, tag_columns, tag_scores, zero_shot_scores
from medvlp.protocols.thresholds import best_threshold, find_thresholds

__all__ = [
    "Prompts",
    "Protocol",
    "Sides",
    "best_threshold",
    "find_thresholds",
    "standardise",
    "tag_columns",
    "tag_scores",
    "zero_shot_scores",
]
