"""Zero-shot protocols: what is asked of a label, how answers become a score, and where thresholds come from."""

from medvlp.protocols.prompts import Prompts, Sides
from medvlp.protocols.protocol import Protocol
from medvlp.protocols.scoring import standardise, tag_columns, tag_scores, zero_shot_scores
from medvlp.protocols.thresholds import best_threshold, thresholds

__all__ = [
    "Prompts",
    "Protocol",
    "Sides",
    "best_threshold",
    "standardise",
    "tag_columns",
    "tag_scores",
    "thresholds",
    "zero_shot_scores",
]
