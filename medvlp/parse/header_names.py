"""Names of headers in radiology reports, and the section that each of them opens.

The rules for MIMIC-CXR are those of MIT-LCP/mimic-code `mimic-iv-cxr/txt/section_parser.py` at 20fe449: a table of
frequent headers, then any header that contains the name of a main section, then names of views, which open Findings.
Further names are those of other hospitals.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache

FINDINGS, IMPRESSION = "findings", "impression"
# What these sections name is asked, known from before, or a method: it is never present in this image.
ASKING = frozenset({"indication", "history", "comparison", "technique", "examination"})
# Kinds of headers that are no name of a section:
#   an organ or device in Findings, a note, a view, and two words whose section depends on the other headers.
PART, NOTE, VIEW, DIAGNOSIS, COMMENT = "(part)", "(note)", "(view)", "(diagnosis)", "comment"

# The whole header, in lower case, by section.
NAMES = {
    FINDINGS: "findings, finding, reference findings, chest two views, report, x-ray report, radiology report, "
    "radiological report, radiologist report, description, observation, observations, result, results, narrative",
    IMPRESSION: "impression, impressions, findings and impression, findings/impression, impression and findings, "
    "conclusion, conclusions, opinion, opinions, interpretation, summary, assessment, overall assessment, "
    "summary of findings, final diagnosis, radiological diagnosis, radiologic diagnosis, radiographic diagnosis, "
    "radiology diagnosis, imaging diagnosis, x-ray diagnosis, bottom line, imp, impr, concl",
    "indication": "indication, indications, reason for examination, reason for exam, reason for study, "
    "reason for test, reason for request, "
    "reason for visit, reason for the exam, reason for this exam, reason for this examination, "
    "reason, clinical indication, clinical indications, clinical question, clinical problem, indication for exam, "
    "indication for study, indication for examination, symptoms, signs and symptoms, chief complaint, "
    "presenting complaint, admitting diagnosis, referring diagnosis, clinical diagnosis, provisional diagnosis, "
    "working diagnosis, request, clinical request",
    "history": "history, clinical history, clinical information, clinical info, patient history, pfi, clinical data, "
    "clinical details, clinical context, clinical notes, clinical background, clinical summary, clinical statement, "
    "brief history, medical history, past medical history, relevant history, relevant clinical information, "
    "history and indication, indication/history, clinical hx, hx, pmh, background, hpi, anamnesis",
    "comparison": "comparison, comparisons, comparison exam, comparison film, comparison study, comparison studies, "
    "reference exam, compared to, compared with, prior, priors, prior study, prior studies, prior exam, prior exams, "
    "prior films, prior imaging, previous study, previous studies, previous exam, previous imaging, correlation",
    "technique": "technique, techniques, procedure, protocol, method, methods, projection, projections, views, "
    "number of views, technical factors, exam technique, imaging technique, technique and views, views obtained",
    "examination": "examination, exam, type of examination, type of exam, study, study type, modality, exam type, "
    "examination performed, exam performed, procedure performed, exam description, exam name, x-ray, investigation",
    "recommendations": "recommendation(s), recommendations, recommendation, advice, plan, suggestion, suggestions, "
    "follow-up, follow up, followup, management, clinical correlation",
    "notification": "notification, notifications, communication, communications, critical result, critical results, "
    "attestation",
    "addendum": "addendum, addenda, addendums",
    "wet read": "wet read, wetread, preliminary read, preliminary interpretation",
    COMMENT: "comment, comments, remark, remarks, discussion",
    "date": "date, date of exam, date of examination, date of study, exam date, study date, date of service, time, "
    "exam time, date and time, date/time",
    "final report": "final report, preliminary report",
    "signature": "signed by, signed, electronically signed by, electronically signed, dictated by, dictated, "
    "reported by, read by, reviewed by, transcribed by, transcribed, verified by, approved by, interpreted by, "
    "radiologist, reporting radiologist, attending, attending radiologist, resident, signature, authenticated by",
    "patient": "patient, patient name, name, age, sex, gender, dob, date of birth, mrn, patient id, accession, "
    "accession number, referring physician, ordering physician, ordering provider, referring doctor, ward, location, "
    "department, hospital, institution",
}
DIAGNOSES = frozenset({"diagnosis", "diagnoses", "dx"})
# A header that contains one of these is that section, the first of them that it contains.
MAIN = (IMPRESSION, FINDINGS, "history", "comparison", "addendum")
VIEWS = re.compile(
    r"chest|portable|(?:pa|ap) and lat|lateral and (?:pa|ap)|frontal and|two views|frontal view|pa view|ap view"
    r"|one view|lateral view|[12] views?\b|single view|bone window|frontal upright|frontal semi-upright|ribs"
    r"|\bcxr\b|thorax"
)
PARTS = re.compile(
    r"\b(?:lungs?|heart|cardi\w*|mediastin\w*|pleura\w*|bon[ey]s?|osseous|osteo\w*|skelet\w*|musculoskeletal|spine"
    r"|ribs?|lines?|tubes?|devices?|catheters?|hardware|support|ett?|ngt?|ogt?|picc|ports?|drains?|wires?|pacemakers?"
    r"|icd|iabp|diaphragms?|hemidiaphragms?|abdom\w*|airways?|trachea\w*|bronch\w*|hil[ai]r?|hilum|vascul\w*|vessels?"
    r"|aort\w*|soft tissues?|thora\w*|hemithora\w*|chest (?:wall|tubes?|drains?|ports?)|costophrenic|neck|breasts?"
    r"|shoulders?|clavicles?|sternum|stomach|bowel|parenchyma\w*|pulmon\w*|interstiti\w*|apices|bases?|silhouettes?"
    r"|apparatus|effusions?|pneumothora\w*|opacit\w*|consolidation|edema|fractures?|nodules?|implants?|lymph\w*"
    r"|fissures?|extrathoracic|tissues?)\b"
)
NOTES = re.compile(
    r"\b(?:others?|miscellaneous|misc|additional|incidental\w*|notes?|nb|associated|quality|position\w*|inspiration"
    r"|rotation|right|left|bilateral|differential|limitations?)\b"
)
SUB_HEADING = re.compile(r"[A-Z][A-Za-z ,/&()-]{2,40}:(?=\s)")
PLACE = re.compile(
    r"\b(?:right|left|bilateral|upper|lower|mid|middle|apic\w+|apex|bases?|basal|basilar|lobes?|r|l|rt|lt)\b",
    re.IGNORECASE,
)
# Words by which the section of a longer header is known, after those of MAIN.
ABOUT = (
    ("indication", re.compile(r"\b(?:reasons?|indications?|symptoms?|complaints?|question|diagnos[ie]s)\b")),
    ("technique", re.compile(r"\b(?:techniques?|protocol)\b")),
    ("comparison", re.compile(r"\b(?:compar\w+|priors?|previous)\b")),
    ("history", re.compile(r"\b(?:clinical|hx)\b")),
    (IMPRESSION, re.compile(r"\b(?:conclusions?|opinion|interpretation|summary)\b")),
    ("notification", re.compile(r"\bnotifi\w+|\bcommunicat\w+")),
    ("recommendations", re.compile(r"\brecommend\w+")),
    ("signature", re.compile(r"\b(?:signed|dictated|transcribed)\b")),
)
# In capitals a few words before a colon are a header. Otherwise all of them must be among these.
COMMON = frozenset(
    """
    a all an and ap at by chest clinical cxr data details dated ed er exam examination exams film films final for from
    frontal image images imaging info information interval icu key lat lateral main medical of on one or overall pa
    patient patient's pertinent plain portable preliminary present previous prior provided provisional radiograph
    radiographic radiographs radiography radiologic radiological radiologist radiologist's radiology ray reason reasons
    relevant report results semi-upright single studies study supine the this today to two upright view views with x
    x-ray x-rays xr xray 1 2 3
    """.split()  # noqa: SIM905
)
# Not in capitals, these need their whole name: `Chest comparison: there is a new mass.` is of Findings.
PROSE = frozenset({"comparison"})
TYPED = (FINDINGS, IMPRESSION, "impressions", "conclusion", "indication", "comparison", "technique", "examination")
SUFFIX = re.compile(r"\(e?s\)")
EXACT = {SUFFIX.sub("s", name.strip()): section for section, names in NAMES.items() for name in names.split(",")}


def section_name(header: str) -> str | None:
    """Return whether a header in capitals opens findings or impression; None if it opens neither.

    Args:
        header: Its words, without colon.

    Example:
        >>> section_name("PORTABLE AP CHEST"), section_name("IMPRESSOIN"), section_name("INDICATION")
        ('findings', 'impression', None)
    """
    section = kind(header, capital=True)
    return FINDINGS if section in (VIEW, PART) else section if section in (FINDINGS, IMPRESSION) else None


@lru_cache(maxsize=1 << 14)
def kind(header: str, capital: bool) -> str | None:
    """Return a section, PART, VIEW, DIAGNOSIS or COMMENT; None for a header that is not known.

    Args:
        header: Its words, without colon.
        capital: Whether it is in capitals. Otherwise it is known by its whole name, or if all its words are common in
            headers: `The impression of the surgeon` is none.
    """
    name = plain(header)
    if not name:
        return None
    section = exact(name)
    if section is not None:
        return section
    words = name.replace("/", " ").replace(",", " ").replace("(", " ").replace(")", " ").split()
    typed = [_corrected(word) for word in words]
    joined = " ".join(typed)
    bare = [word for word in typed if word not in COMMON]
    if not capital and (len(words) > 6 or any(not _in_headers(word) for word in bare)):
        return None
    part = PART if PARTS.search(name) else NOTE if NOTES.search(name) else None
    for main in MAIN:
        if main in joined and (capital or main not in PROSE):
            return part if main == FINDINGS and part else main
    if "differential" in name:
        return NOTE
    for section, pattern in ABOUT:
        if pattern.search(joined) and (capital or section not in PROSE):
            return section
    without_organs = re.sub(r"chest (?:wall|tubes?|drains?|ports?|cavity)|thora\w+ (?:spine|aorta|cage)|ribs", "", name)
    if VIEWS.search(without_organs):
        return VIEW
    return part


def exact(name: str) -> str | None:
    """Return the kind of a header by its whole name or a typing error in it; None if it is not in the tables.

    Args:
        name: As `plain` returns it.
    """
    if name in DIAGNOSES:
        return DIAGNOSIS
    section = EXACT.get(name)
    if section is None and " " not in name:
        section = EXACT.get(_corrected(name))
    return section


def plain(header: str) -> str:
    """Return a header in lower case, with single blanks, and without marks around it."""
    name = SUFFIX.sub("s", header.lower().replace("_", " ").replace("&amp;", "and").replace("&", " and "))
    name = " ".join(name.strip(" \t\r\n*#=~<>[](){}|'\".,-\u2013\u2014\u2022\ufeff\u200b").split())
    return name.replace("/ ", "/").replace(" /", "/").replace("chest, two views", "chest two views")


def sub_heading(sentence: str) -> int:
    """Return the end of a sub-heading of Findings that a sentence begins with, such as `LUNGS AND PLEURA:`; 0 for none.

    One that names a side or a zone is a part of what follows, and counts as none.
    """
    heading = SUB_HEADING.match(sentence)
    if heading is None or PLACE.search(heading[0]):
        return 0
    words = heading[0][:-1]
    return heading.end() if kind(words, words.isupper()) == PART else 0


@lru_cache(maxsize=1 << 10)
def asks(section: str) -> bool:
    """Return whether findings in a section are asked or old: an indication, history, comparison, technique.

    Args:
        section: Name of a section, or of a column that holds one.
    """
    return kind(section, capital=True) in ASKING


def _in_headers(word: str) -> bool:
    return word in HEADS or bool(PARTS.fullmatch(word) or NOTES.fullmatch(word))


@lru_cache(maxsize=1 << 12)
def _corrected(word: str) -> str:
    """Return a word without a typing error in the name of a main section."""
    if len(word) < 6 or word in EXACT or word in COMMON or PARTS.fullmatch(word):
        return word
    close = difflib.get_close_matches(word, TYPED, n=1, cutoff=0.85)
    return close[0] if close else word


# Words that make a header of the common words around them.
HEADS = frozenset(
    {*MAIN, *TYPED, *DIAGNOSES, *(name for name in EXACT if " " not in name)} - {"name", "age", "sex", "plan", "prior"}
)
