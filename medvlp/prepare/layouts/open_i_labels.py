"""The labels of Open-I, from its human coding by headings of MeSH and RadLex."""

from __future__ import annotations

# Headings of the human coding (column Problems) for each label. CheXpert's spelling, else that of NIH ChestX-ray14.
LABELS: dict[str, frozenset[str]] = {
    "Atelectasis": frozenset({"Pulmonary Atelectasis"}),
    "Calcified Granuloma": frozenset({"Calcified Granuloma"}),
    "Cardiomegaly": frozenset({"Cardiomegaly"}),
    "Consolidation": frozenset({"Consolidation"}),
    "Edema": frozenset({"Pulmonary Edema"}),
    "Emphysema": frozenset({"Emphysema", "Pulmonary Emphysema", "Bullous Emphysema"}),
    "Fibrosis": frozenset({"Fibrosis", "Pulmonary Fibrosis"}),
    "Fracture": frozenset({"Fractures, Bone"}),
    "Hernia": frozenset({"Hernia, Hiatal", "Hernia, Diaphragmatic"}),
    "Infiltration": frozenset({"Infiltrate"}),
    "Lung Opacity": frozenset({"Opacity", "Airspace Disease", "Infiltrate", "Consolidation"}),
    "Mass": frozenset({"Mass"}),
    "No Finding": frozenset({"normal"}),
    "Nodule": frozenset({"Nodule"}),
    "Pleural Effusion": frozenset({"Pleural Effusion", "Hydropneumothorax"}),
    "Pleural Thickening": frozenset({"Thickening/pleura"}),
    "Pneumonia": frozenset({"Pneumonia"}),
    "Pneumothorax": frozenset({"Pneumothorax", "Hydropneumothorax"}),
    "Support Devices": frozenset(
        {"Catheters, Indwelling", "Implanted Medical Device", "Medical Device", "Stents", "Tube, Inserted"}
    ),
}
UNCODED = "No Indexing"


def find_labels(mesh: str, problems: str) -> list[int | None]:
    """Return a value for each of LABELS from the human coding of a study.

    The coders noted every abnormality: a finding without a heading is absent, 0. A study without a coding has None.

    Args:
        mesh: Headings with their qualifiers, `Opacity/lung/base/left;...`.
        problems: Headings alone, `Opacity;...`.
    """
    headings = {heading.strip() for heading in problems.split(";")}
    # A heading such as Thickening needs its first qualifier, the place.
    headings |= {"/".join(part.strip() for part in term.split("/")[:2]) for term in mesh.split(";")}
    if UNCODED in headings or not headings - {""}:
        return [None] * len(LABELS)
    return [int(not headings.isdisjoint(terms)) for terms in LABELS.values()]
