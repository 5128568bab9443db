import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.parse.header_names import asks, section_name
from medvlp.parse.sections import all_sections, find_sections, split_sections

# Headers that the rules of MIT-LCP make Findings: those that contain it, and names of views.
OFFICIAL = (
    "FINDINGS (CHEST)",
    "PRELIMINARY FINDINGS",
    "CHEST FINDINGS",
    "FINDINGS AS FOLLOWS",
    "FINDINDGS",
    "REFERENCE FINDINGS",
    "CHEST",
    "CHEST, TWO VIEWS",
    "CHEST PA AND LATERAL",
    "CHEST RADIOGRAPH",
    "CHEST (PORTABLE AP)",
    "PORTABLE CHEST",
    "PORTABLE AP CHEST",
    "PORTABLE UPRIGHT AP RADIOGRAPH",
    "AP PORTABLE SEMI-UPRIGHT VIEW OF THE CHEST",
    "PA AND LATERAL VIEWS",
    "LATERAL AND PA VIEWS",
    "AP AND LATERAL VIEWS",
    "LATERAL AND AP RADIOGRAPHS",
    "FRONTAL AND LATERAL VIEWS",
    "UPRIGHT, TWO VIEWS",
    "FRONTAL VIEW",
    "PA VIEW",
    "AP VIEW",
    "ONE VIEW",
    "LATERAL VIEW",
    "BONE WINDOWS",
    "FRONTAL UPRIGHT RADIOGRAPH",
    "FRONTAL SEMI-UPRIGHT RADIOGRAPH",
    "LEFT RIBS",
    "RIBS, FOUR VIEWS",
    "PA AND LAT",
)


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        (" FINDINGS:  Clear lungs.\n\n IMPRESSION:  Normal.", "Clear lungs.", "Normal."),
        ("FINDINGS: At the start.", "At the start.", None),
        ("FINAL REPORT\n\n IMPRESSION:\n\n 1.  One.\n 2.  Two.", None, "1.  One.\n 2.  Two."),
        (" FINDINGS AND IMPRESSION: Both here.", None, "Both here."),
        (" FINDINGS/IMPRESSION: Both here.", None, "Both here."),
        (" FINDINGS/ IMPRESSION: Both here.", None, "Both here."),
        (" PROVISIONAL FINDINGS IMPRESSION (PFI): Both here.", None, "Both here."),
        (" CONCLUSION: Stable.", None, "Stable."),
        (" IMPRESSOIN: Typed fast.", None, "Typed fast."),
        (" MPRESSION: Cut off.", None, "Cut off."),
        (" FINIDNGS: Typed fast.", "Typed fast.", None),
        (" FINDING: One.", "One.", None),
        (" INDICATION: Cough.\n\n The lungs are clear.", None, None),
        (" NDICATION: Cough.", None, None),
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
        (" FINDINGS: One.\n XYZ: A header that nobody knows.", "One.", None),
        (" FINDINGS: a\r\n b\r\n IMPRESSION: c\r\n", "a\r\n b", "c"),
        (" COMPARISON: None.\n FINDINGS: x", "x", None),
        ("", None, None),
        (":", None, None),
        # Views.
        (" CHEST, PA AND LATERAL:\n\n HISTORY: Cough.\n\n IMPRESSION: Good.", None, "Good."),
        (" PORTABLE CHEST: First.\n\n PORTABLE CHEST: Second.", "Second.", None),
        (" FINDINGS:\n\n CHEST: Clear.\n IMPRESSION: Good.", "Clear.", "Good."),
        (" FINDINGS: Two films.\n CHEST: Clear.", "Two films.\n CHEST: Clear.", None),
        (" IMPRESSION:\n CHEST: Clear.\n ABDOMEN: Normal.", None, "CHEST: Clear.\n ABDOMEN: Normal."),
        (" REASON FOR CHEST RADIOGRAPH: Cough.\n IMPRESSION: Good.", None, "Good."),
        # Names of organs.
        (
            "FINDINGS:\nLUNGS: Clear.\nPLEURA: Small left effusion.\nIMPRESSION: Good.",
            "LUNGS: Clear.\nPLEURA: Small left effusion.",
            "Good.",
        ),
        (
            "FINDINGS:\nLINES AND TUBES: None.\nHEART: Large.\nMEDIASTINUM: Wide.\nBONES: Intact.\nOTHER: -",
            "LINES AND TUBES: None.\nHEART: Large.\nMEDIASTINUM: Wide.\nBONES: Intact.\nOTHER: -",
            None,
        ),
        ("FINDINGS: Clear.\nUPPER ABDOMEN: Normal.\nOTHER FINDINGS: None.\nNOTE: Rotated.", ("Clear.\nUPPER ABDOMEN: "
         "Normal.\nOTHER FINDINGS: None.\nNOTE: Rotated."), None),
        ("FINDINGS: Clear.\nTECHNIQUE: AP.\nBONES: Intact.", "Clear.\n\nBONES: Intact.", None),
        ("TECHNIQUE: AP.\nLUNGS: Clear.\nHEART: Large.\nIMPRESSION: Good.", "LUNGS: Clear.\nHEART: Large.", "Good."),
        ("Technique: AP.\nLungs: Clear.\nHeart: Large.\nImpression: Good.", "Lungs: Clear.\nHeart: Large.", "Good."),
        ("HISTORY:\nCARDIAC: Infarct.\nFINDINGS: Clear.", "Clear.", None),
        # Other ways to write a header.
        (" Findings: Clear.\n Impression: Good.", "Clear.", "Good."),
        ("findings: clear.\nimpression: good.", "clear.", "good."),
        ("findings: clear\nimpression: good", "clear", "good"),
        ("FINDINGS:The lungs are clear.\nIMPRESSION:Good.", "The lungs are clear.", "Good."),
        ("FINDINGS : Clear.\nIMPRESSION\t:\tGood.", "Clear.", "Good."),
        ("FINDINGS:\tClear.\r\n\tIMPRESSION:\tGood.", "Clear.", "Good."),
        ("FINDINGS: Clear.\rIMPRESSION: Good.\r", "Clear.", "Good."),
        ("FINDINGS: Clear.\n\u00a0IMPRESSION: Good.", "Clear.", "Good."),
        ("FINDINGS:\u00a0Clear.\n\u2003IMPRESSION\u00a0: Good.", "Clear.", "Good."),
        ("\ufeffFINDINGS: Clear.\u2028IMPRESSION: Good.", "Clear.", "Good."),
        ("FINDINGS\uff1aClear.\nIMPRESSION\uff1aGood.", "Clear.", "Good."),
        ("**Findings:** Clear.\n\n**Impression**: Good.", "Clear.", "Good."),
        ("## Findings\nClear.\n\n## Impression\nGood.", "Clear.", "Good."),
        ("FINDINGS\nClear.\n\nIMPRESSION\nGood.", "Clear.", "Good."),
        ("Findings\n--------\nClear.\n\nImpression\n==========\nGood.", "Clear.", "Good."),
        ("FINDINGS:\n---------\nClear.\n---------\nIMPRESSION:\n---------\nGood.", "Clear.", "Good."),
        ("[FINDINGS]\nClear.\n(IMPRESSION): Good.", "Clear.", "Good."),
        ("1. FINDINGS: Clear.\n2. IMPRESSION: Good.", "Clear.", "Good."),
        ("FINDINGS - Clear.\nIMPRESSION \u2013 Good.", "Clear.", "Good."),
        ("<b>FINDINGS:</b> Clear.<br><b>IMPRESSION:</b> Good.", "Clear.", "Good."),
        ("FINDINGS: Clear.\\.br\\IMPRESSION: Good.", "Clear.", "Good."),
        ("FINDINGS: Clear.\\nIMPRESSION: Good.", "Clear.", "Good."),
        ("Findings\tClear\nImpression\tGood", "Clear", "Good"),
        ("CHEST TUBE: In place.\nIMPRESSION: Good.", "CHEST TUBE: In place.", "Good."),
        ("FINDINGS:\n\n Comparison: CT.\n\n Clear.\n\n IMPRESSION: Good.", "Comparison: CT.\n\n Clear.", "Good."),
        ("FINDINGS\uff1a\u3000Clear.", "Clear.", None),
        ("FINDINGS- Clear.\nIMPRESSION; Good.", "Clear.", "Good."),
        ("Findings --> Clear\nImpression = Good", "Clear", "Good"),
        ("FINDINGS:- Clear.\nIMPRESSION :- Good.", "Clear.", "Good."),
        ("FINDINGS.\nClear.\n*** IMPRESSION ***\nGood.", "Clear.", "Good."),
        ("Findings:Clear.Impression:Good.", "Clear.", "Good."),
        ("PORTABLE CHEST, 10:30 AM: Clear.\nIMP: Good.", "Clear.", "Good."),
        ("CHEST 2 VIEWS: Clear.\nIMPRESSION: Good.", "Clear.", "Good."),
        # In the middle of a line.
        ("FINDINGS: The lungs are clear. IMPRESSION: Good.", "The lungs are clear.", "Good."),
        ("Findings: The lungs are clear. Impression: Good.", "The lungs are clear.", "Good."),
        ("INDICATION: cough FINDINGS: clear IMPRESSION: good", "clear", "good"),
        ("INDICATION: cough | FINDINGS: clear | IMPRESSION: good", "clear", "good"),
        ("INDICATION: Cough. PORTABLE CHEST: Clear. IMPRESSION: Good.", "Clear.", "Good."),
        ("Comparison: 3/4/2020. Findings: Clear. Conclusion: Good.", "Clear.", "Good."),
        # Prose.
        ("FINDINGS: My overall impression: large heart.", "My overall impression: large heart.", None),
        ("FINDINGS: Stable, with the overall\n impression: unchanged.", ("Stable, with the overall\n impression: "
         "unchanged."), None),
        (
            "Findings: Clear.\nNote: rotated.\nDr. Smith: told.\nTime: 10:30\nImpression: Good.",
            "Clear.\nNote: rotated.\nDr. Smith: told.\nTime: 10:30",
            "Good.",
        ),
        ("FINDINGS: Clear.\n Follow- up: no. At 10:30: no.", "Clear.\n Follow- up: no. At 10:30: no.", None),
        ("FINDINGS: Ratio of 1:2. Comparison: none.", "Ratio of 1:2. Comparison: none.", None),
        ("IMPRESSION:\n1. Effusion.\n2. CHEST: same.\n3. Comparison: none.", None, ("1. Effusion.\n2. CHEST: same.\n"
         "3. Comparison: none.")),
        # Names of other hospitals.
        ("REPORT: Clear.\nOPINION: Good.", "Clear.", "Good."),
        ("DESCRIPTION: Clear.\nCONCLUSIONS: Good.", "Clear.", "Good."),
        ("RADIOGRAPHIC FINDINGS: Clear.\nINTERPRETATION: Good.", "Clear.", "Good."),
        ("Radiological findings: Clear.\nSummary: Good.", "Clear.", "Good."),
        ("OBSERVATIONS: Clear.\nASSESSMENT: Good.", "Clear.", "Good."),
        ("FINDINGS: Clear.\nCOMMENT: Good.", "Clear.", "Good."),
        ("FINDINGS: Clear.\nIMPRESSION: Good.\nCOMMENT: Call.", "Clear.", "Good."),
        ("COMMENT: Clear.\nIMPRESSION: Good.", "Clear.", "Good."),
        ("DIAGNOSIS: Cough.\nFINDINGS: Clear.", "Clear.", None),
        ("FINDINGS: Clear.\nDIAGNOSIS: Good.", "Clear.", "Good."),
        # Several reports.
        ("FINDINGS: Clear.\nIMPRESSION: Good.\nADDENDUM: Small effusion.", "Clear.", "Good."),
        ("ADDENDUM: Seen.\n FINAL REPORT\n FINDINGS: Clear.\n IMPRESSION: Good.", "Clear.", "Good."),
    ],
)  # fmt: skip
def test_layouts(text, findings, impression):
    assert find_sections(text) == (findings, impression)


@pytest.mark.parametrize("header", OFFICIAL)
def test_official_headers_are_findings(header):
    text = f" FINAL REPORT\n INDICATION: Cough.\n\n {header}: The lungs are clear.\n\n IMPRESSION: Good.\n"
    findings, impression = find_sections(text)
    assert findings.endswith("The lungs are clear.")
    assert impression == "Good."
    assert section_name(header) == "findings"


@pytest.mark.parametrize(
    "header",
    ["INDICATION", "COMPARISON", "TECHNIQUE", "EXAMINATION", "WET READ", "ADDENDUM", "INFECTION", "XYZ", "", " ", "/"],
)
def test_other_headers(header):
    assert section_name(header) is None


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        (
            " REASON FOR EXAM: Cough.\n FINDINGS: Clear.\n WET READ:\n CONCLUSION: Normal.",
            {"indication": "Cough.", "findings": "Clear.", "impression": "Normal."},
        ),
        (
            "Clinical History: Pneumonia.\nComparison: Large effusion.\nTechnique: PA.",
            {"history": "Pneumonia.", "comparison": "Large effusion.", "technique": "PA."},
        ),
        (
            "Clinical History: Pneumonia. Comparison: Large effusion. Findings: Clear.",
            {"history": "Pneumonia.", "comparison": "Large effusion.", "findings": "Clear."},
        ),
        (
            "FINDINGS: One.\nIMPRESSION: Two.\n\nFINDINGS: Three.\nIMPRESSION: Four.\nADDENDUM: Five.",
            {"findings": "One.\n\nThree.", "impression": "Two.\n\nFour.", "addendum": "Five."},
        ),
        ("Old film.\nPORTABLE CHEST: One.", {"report": "Old film.", "findings": "One."}),
        ("Two views.\nFINDINGS: One.", {"report": "Two views.", "findings": "One."}),
        ("INDICATION: Cough.\n \n Small effusion.", {"indication": "Cough.", "last_paragraph": "Small effusion."}),
        ("PFI: One.\nCLINICAL DETAILS: Two.\nPRIOR STUDIES: None.", {"history": "One.\n\nTwo.", "comparison": "None."}),
        ("INDICATION: Cough.\nNote: rule out mass.\nIMPRESSION: x", {"indication": "Cough.\nNote: rule out mass.",
         "impression": "x"}),
        ("Impression: One.\nRecommendation: CT.\nSigned by: Dr. X", {"impression": "One.", "recommendations": "CT.",
         "signature": "Dr. X"}),
        ("FINDINGS: One.\nXYZ: Two.", {"findings": "One.", "xyz": "Two."}),
    ],
)  # fmt: skip
def test_all_sections(text, sections):
    assert all_sections(text) == sections


def test_a_column_names_the_text_before_the_first_header():
    assert all_sections("Clear. IMPRESSION: Good.", "findings") == {"findings": "Clear.", "impression": "Good."}
    assert find_sections("Clear.", "findings") == ("Clear.", None)
    assert all_sections("FOLLOW UP", "indication") == {"indication": "FOLLOW UP"}
    assert find_sections("Chest  Comparison: New mass.", "findings") == ("New mass.", None)
    assert all_sections("Mass.\nLUNGS: pneumonia.", "indication") == {"indication": "Mass.\nLUNGS: pneumonia."}


@pytest.mark.parametrize("name", ["indication", "clinical_history", "Reason for exam", "COMPARISON", "technique"])
def test_sections_that_ask(name):
    assert asks(name)


@pytest.mark.parametrize("name", ["findings", "impression", "report", "text", "addendum", "last_paragraph", ""])
def test_sections_that_state(name):
    assert not asks(name)


headers = ["FINDINGS", "Findings", "IMPRESSION", "Impression", "LUNGS", "CHEST", "Comparison", "DIAGNOSIS", "COMMENT"]
marks = [
    ":",
    "\n",
    " ",
    "\n ",
    "\n\n",
    "\r",
    "___",
    "1.",
    "\u00e9",
    "**",
    "<br>",
    "\\n",
    "|",
    "-",
    "----",
    "(s)",
    "AND",
    "a.",
]
words = st.sampled_from([*headers, *marks])
texts = st.one_of(st.text(), st.lists(words).map("".join))


@given(texts)
def test_sections_cover_the_text(text):
    sections = split_sections(text)
    assert "".join(text[section.start : section.end] for section in sections) == text
    for section in sections:
        assert section.start <= section.body <= section.end


@given(texts)
def test_sections_are_parts_of_the_text(text):
    for content in all_sections(text).values():
        for part in content.split("\n\n"):
            assert part in text
        assert content == content.strip() != ""
    for section in find_sections(text):
        assert section is None or section.strip() == section != ""


@given(st.text(string.ascii_letters + " .\n"), st.text(string.ascii_letters + " .\n"))
def test_sections_of_a_well_formed_report(findings, impression):
    text = f" FINAL REPORT\n FINDINGS: {findings}\n IMPRESSION: {impression}\n"
    assert find_sections(text) == (findings.strip() or None, impression.strip() or None)


pieces = ["A: ", "(", "FINDINGS ", "a:", "*", "1. ", "<b>", "<br>", "\\n", "\n \n", " - ", "A\nX: ", "CHEST:\n"]


@pytest.mark.parametrize("piece", [*pieces, "LUNGS: x\n", "COPY:\n", "TECHNIQUE: x\nLUNGS: y\n"])
def test_time_is_linear(piece):
    seconds = []
    for count in (8_000, 32_000):
        turns = []
        for _ in range(3):  # a garbage collection of the whole process may fall into one
            start = time.process_time()
            find_sections("FINDINGS: x\n" + piece * count)
            turns.append(time.process_time() - start)
        seconds.append(min(turns))
    assert seconds[1] < 10 * seconds[0] + 0.3, seconds
