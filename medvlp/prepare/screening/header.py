"""The flags that a DICOM header raises.

Source: DICOM PS3.3, C.8.11.5 (DX positioning), C.7.6.1.1.1 (patient orientation), C.8.11.1 (presentation intent);
PS3.16, CID 4010 (views). Exports write the codes in lower case, with blanks, and in other languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

# Texts about the series or the image. Those about the study, such as `CHEST PA AND LAT`, name the views of all images.
TEXTS = [
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "AcquisitionProtocolName",
    "AcquisitionProtocolDescription",
    "AcquisitionComments",
    "ImageComments",
]
VIEWS = ["ViewCodeSequence", "ViewModifierCodeSequence"]
TAGS = [
    *TEXTS,
    *VIEWS,
    "AnatomicRegionSequence",
    "BodyPartExamined",
    "ImageType",
    "Modality",
    "PatientOrientation",
    "PresentationIntentType",
    "SOPClassUID",
    "ViewPosition",
]

# Codes of ViewPosition and of CID 4010, in SNOMED CT and in SNOMED RT.
LATERAL_CODE = re.compile("[LR]L|[LR]LAT|399067008|399173006|399198007|399352003|399260004|R-102(CD|36|32|28|24)")
OBLIQUE_CODE = re.compile(
    "[LR][APL]O|399182000|399135007|399184004|399006002|399356000|399236003|399038007|399160007|399132005|399312000|"
    "399059000|399099002|399368009|260427002|260426006"
)
# Left or right lateral decubitus: the patient lies on a side, and the beam is frontal.
DECUBITUS_CODE = re.compile("[LR]LD")
LATERAL_WORD = re.compile("LAT|LATERAL(E|ES|IS)?|LATL|[LR]T?LAT|LATERO|LL|SEITL(ICH)?|PROFIL|PERFIL")
FRONTAL_WORD = re.compile("PA|AP|FRONTALE?|(POSTERO|ANTERO)(ANTERIOR|POSTERIOR)?|FACE|VIEWS")
OBLIQUE_WORD = re.compile("OBL|OBLIQUES?")

# Directions in the image, x to the right and y down, of the patient's left, right, feet and head in a frontal view.
DIRECTIONS = {"L": (1, 0), "R": (-1, 0), "F": (0, 1), "H": (0, -1)}

MODALITIES = frozenset({"CR", "DX", "DR", "XR", "RG", "OT", "SC", ""})
# Storage classes of radiographs, without their common beginning: computed, digital (for presentation and processing),
# secondary capture of any kind. They count where the modality is missing.
CLASSES = "1.2.840.10008.5.1.4.1.1."
RADIOGRAPHS = re.compile(r"1|1\.1|1\.1\.1|7|7\.\d+")
RAW = CLASSES + "1.1.1"
CHEST = re.compile("CHEST|THORA|TORA[XC]|LUNG|PULMO|POUMON|RIB|STERN|HEART|CARDI|MEDIAST|CXR|BRUST|POITRINE|PECHO")
# Words that name no part.
ANYWHERE = re.compile("OTHERS?|UNKNOWN|UNSPECIFIED|UNDEFINED|DEFAULT|(WHOLE)?BODY|TRUNK|NONE|NA|NULL|TEST")


def header_flags(ds: Dataset) -> Iterator[str]:
    """Yield the flags of a DICOM header. An element that is damaged raises none.

    Args:
        ds: Data set with the elements of TAGS that the file has.
    """
    modality, storage = _code(ds, "Modality"), _code(ds, "SOPClassUID")
    other_class = storage.startswith(CLASSES) and not RADIOGRAPHS.fullmatch(storage[len(CLASSES) :])
    if modality not in MODALITIES or (not modality and other_class):
        yield "other-modality"
    if _is_elsewhere(_code(ds, "BodyPartExamined")) or any(map(_is_elsewhere, _codes(ds, "AnatomicRegionSequence"))):
        yield "other-body-part"
    if _code(ds, "PresentationIntentType").startswith("FOR PROC") or storage == RAW:
        yield "for-processing"
    kinds = [_normal(kind) for kind in _values(ds, "ImageType")]
    if {"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM"} & {*kinds}:
        yield "localiser"
    if kinds[:2] == ["DERIVED", "SECONDARY"]:
        yield "derived"
    yield from dict.fromkeys(_positions(ds))


def _positions(ds: Dataset) -> Iterator[str]:
    """Yield the flags of the view, perhaps several times."""
    codes = [_code(ds, "ViewPosition"), *(code for name in VIEWS for code in _codes(ds, name))]
    for code in codes:
        if LATERAL_CODE.fullmatch(code):
            yield "lateral"
        elif OBLIQUE_CODE.fullmatch(code):
            yield "oblique"
        elif DECUBITUS_CODE.fullmatch(code):
            yield "turned"
    for text in [*codes, *(value for name in TEXTS for value in _values(ds, name))]:
        yield from view_of(text)
    yield from orientation([_normal(value) for value in _values(ds, "PatientOrientation")])


def view_of(text: str) -> Iterator[str]:
    """Yield the flag of the view that a text names, if it names one other than frontal, and no other beside it.

    Example:
        >>> [*view_of("Chest_LAT")], [*view_of("CHEST PA AND LAT")], [*view_of("left lateral decubitus")]
        (['lateral'], [], ['turned'])
    """
    # `ChestLat` is two words, `a.p.` is one.
    plain = _normal(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text))
    plain = re.sub(r"\b([AP])[./ -]{1,2}([AP])\b", r"\1\2", plain)
    words = {re.sub(r"^(CHEST|THORAX|TORAX|CXR)(?=.)", "", word) for word in re.findall(r"[A-Z]+", plain)}
    if any(word.startswith("DECUB") for word in words):
        yield "turned"
    elif not any(map(FRONTAL_WORD.fullmatch, words)):
        if any(map(OBLIQUE_WORD.fullmatch, words)):
            yield "oblique"
        elif any(map(LATERAL_WORD.fullmatch, words)) and not {"ANTERIOR", "POSTERIOR"} & words:
            yield "lateral"


def orientation(values: Sequence[str]) -> Iterator[str]:
    """Yield the flags of the patient orientation: the directions of the rows and of the columns.

    Example:
        >>> [*orientation(["L", "F"])], [*orientation(["R", "F"])], [*orientation(["A", "F"])]
        ([], ['mirrored'], ['lateral'])
    """
    if len(values) != 2 or not all(values):
        return
    # The first letter is the main direction of an oblique one.
    row, column = (value[0] for value in values)
    if row in "AP" or column in "AP":
        yield "lateral"
    if row in "FH":
        yield "turned"
    elif column == "H":
        yield "upside-down"
    if row in DIRECTIONS and column in DIRECTIONS:
        (x1, y1), (x2, y2) = DIRECTIONS[row], DIRECTIONS[column]
        if x1 * y2 - x2 * y1 < 0:
            yield "mirrored"


def _is_elsewhere(part: str) -> bool:
    """Return whether a body part is named, by a word, and is not the chest."""
    word = re.sub(r"[^A-Z]", "", part)
    named = len(word) > 1 and not re.search(r"\d", part)
    return named and not ANYWHERE.fullmatch(word) and (not CHEST.search(word) or "SPINE" in word)


def _codes(ds: Dataset, name: str) -> Iterator[str]:
    """Yield values and meanings of the codes of a sequence."""
    try:
        items = [*(ds.get(name) or ())]
    except Exception:  # noqa: BLE001  (a broken element)
        return
    for item in items:
        for part in ("CodeValue", "LongCodeValue", "CodeMeaning"):
            yield _code(item, part)


def _code(ds: Dataset, name: str) -> str:
    return _normal(" ".join(_values(ds, name)))


def _values(ds: Dataset, name: str) -> list[str]:
    """Return the values of an element as text; none for one that is missing or damaged."""
    try:
        value = ds.get(name)
    except Exception:  # noqa: BLE001  (a broken element)
        return []
    if value is None:
        return []
    return (
        [value] if isinstance(value, str) else [str(v) for v in value] if isinstance(value, Sequence) else [str(value)]
    )


def _normal(text: str) -> str:
    """Return a text in capitals without accents, with single blanks instead of other blanks and underscores."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(plain.replace("\0", " ").replace("_", " ").upper().split())
