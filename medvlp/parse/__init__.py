"""The parser of radiology reports into triplets of anatomical region, finding and existence; the command `parse`.

Its vocabulary is in `vocabulary/`, YAML files for radiologists. Nothing here imports torch.
"""

from medvlp.parse.cues import Existence
from medvlp.parse.lexicon import DESCRIPTIONS, FINDINGS, LABEL_SETS, REGIONS, Severity, Side
from medvlp.parse.report import Triplet, parse_report
from medvlp.parse.table import write_triplets

__all__ = [
    "DESCRIPTIONS",
    "FINDINGS",
    "LABEL_SETS",
    "REGIONS",
    "Existence",
    "Severity",
    "Side",
    "Triplet",
    "parse_report",
    "write_triplets",
]
