import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.parse.sections import all_sections, find_sections, section_name


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        (" FINDINGS:  Clear lungs.\n\n IMPRESSION:  Normal.", "Clear lungs.", "Normal."),
        ("FINDINGS: At the start.", "At the start.", None),
        ("FINAL REPORT\n\n IMPRESSION:\n\n 1.  One.\n 2.  Two.", None, "1.  One.\n 2.  Two."),
        (" FINDINGS AND IMPRESSION: Both here.", None, "Both here."),
        (" FINDINGS/IMPRESSION: Both here.", None, "Both here."),
        (" FINDINGS/ IMPRESSION: Both here.", None, "Both here."),
        (" CONCLUSION: Stable.", None, "Stable."),
        (" IMPRESSOIN: Typed fast.", None, "Typed fast."),
        (" MPRESSION: Cut off.", None, "Cut off."),
        (" FINIDNGS: Typed fast.", "Typed fast.", None),
        (" FINDING: One.", "One.", None),
        (" CHEST, TWO VIEWS: Clear.", "Clear.", None),
        (" INDICATION: Cough.\n\n The lungs are clear.", None, None),
        (" FINDINGS: First.\n\n FINDINGS: Second.", "Second.", None),
        (" FINDINGS: First.\n\n FINDINGS:  \n", "First.", None),
        (" FINDINGS: \n\n IMPRESSION:\n", None, None),
        (
            " FINDINGS: Seen at 10:30 a.m.  NOTE: in the line.\n IMPRESSION: So.",
            "Seen at 10:30 a.m.  NOTE: in the line.",
            "So.",
        ),
        (" FINDINGS: One.\n NOTIFICATION: Dr. ___.\n", "One.", None),
        (" IMPRESSION: One.\n\n RECOMMENDATION(S):  CT.", None, "One."),
        (" FINDINGS: a\r\n b\r\n IMPRESSION: c\r\n", "a\r\n b", "c"),
        (" Findings: not a header of MIMIC-CXR", None, None),
        (" FINDINGS:no space after the colon", None, None),
        (" COMPARISON: None.\n FINDINGS: x", "x", None),
        ("", None, None),
        (":", None, None),
    ],
)
def test_layouts(text, findings, impression):
    assert find_sections(text) == (findings, impression)


@pytest.mark.parametrize(
    "header", ["INDICATION", "COMPARISON", "TECHNIQUE", "EXAMINATION", "WET READ", "ADDENDUM", "", " ", "/"]
)
def test_other_headers(header):
    assert section_name(header) is None


words = st.sampled_from(["FINDINGS", "IMPRESSION", "AND", ":", "\n", " ", "\n ", "Clear.", "___", "1.", "\r", "\u00e9"])


@given(st.one_of(st.text(), st.lists(words).map("".join)))
def test_sections_are_parts_of_the_text(text):
    for section in find_sections(text):
        if section is not None:
            assert section in text
            assert section == section.strip() != ""


@given(st.text(string.ascii_letters + " .\n"), st.text(string.ascii_letters + " .\n"))
def test_sections_of_a_well_formed_report(findings, impression):
    text = f" FINAL REPORT\n FINDINGS: {findings}\n IMPRESSION: {impression}\n"
    assert find_sections(text) == (findings.strip() or None, impression.strip() or None)


def test_other_sections_keep_their_headers():
    text = " REASON FOR EXAM: Cough.\n FINDINGS: Clear.\n WET READ:\n CONCLUSION: Normal."
    assert all_sections(text) == {"reason for exam": "Cough.", "findings": "Clear.", "impression": "Normal."}
