"""The 14 CheXpert labels of a report, as a labeler would read them from its sentences."""

from __future__ import annotations

from collections.abc import Iterable

from medvlp.phantom.world import Sentence
from medvlp.prepared import CHEXPERT_LABELS

COLUMN = {
    "atelectasis": "Atelectasis",
    "collapse": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "enlarged cardiomediastinum": "Enlarged Cardiomediastinum",
    "fracture": "Fracture",
    "nodule": "Lung Lesion",
    "nodular opacity": "Lung Lesion",
    "mass": "Lung Lesion",
    "opacity": "Lung Opacity",
    "pleural effusion": "Pleural Effusion",
    "pneumonia": "Pneumonia",
    "pneumothorax": "Pneumothorax",
    "endotracheal tube": "Support Devices",
    "enteric tube": "Support Devices",
    "central line": "Support Devices",
    "pacemaker": "Support Devices",
    "sternotomy wires": "Support Devices",
}
_VALUE = {"present": "1.0", "uncertain": "-1.0", "absent": "0.0"}


def chexpert(sentences: Iterable[Sentence]) -> dict[str, str]:
    """Return the value of every column: 1.0, 0.0, -1.0 or empty.

    Precedence, weakest first: of several mentions of a finding, absent, uncertain or present, the strongest one wins.
    No Finding is 1.0 if nothing except devices is present or uncertain.
    """
    out = dict.fromkeys(CHEXPERT_LABELS, "")
    existences_of: dict[str, set[str]] = {}
    for sentence in sentences:
        for t in sentence.triplets:
            if t.finding in COLUMN:
                existences_of.setdefault(COLUMN[t.finding], set()).add(t.existence)
    for column, existences in existences_of.items():
        out[column] = next(value for name, value in _VALUE.items() if name in existences)
    if not any(out[c] in ("1.0", "-1.0") for c in CHEXPERT_LABELS if c != "Support Devices"):
        out["No Finding"] = "1.0"
    return out
