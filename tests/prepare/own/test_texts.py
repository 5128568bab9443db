import pytest

from medvlp.errors import LeftOutError
from medvlp.prepare.own.texts import read_texts

BOTH = ("Heart normal.", "No effusion.")


@pytest.mark.parametrize(
    "text",
    [
        "FINDINGS: Heart normal.\nIMPRESSION: No effusion.",
        "Befund: Heart normal.\nBeurteilung: No effusion.",
        "KLINISCHE ANGABEN: Husten.\nBEFUND:\nHeart normal.\n\nBEURTEILUNG:\nNo effusion.",
        "Hallazgos:\nHeart normal.\nConclusión:\nNo effusion.",
        "Indication : toux\nRésultats : Heart normal.\nConclusion : No effusion.",
        "<p>FINDINGS:</p><p>Heart normal.</p><p>IMPRESSION: No effusion.</p>",
        "FINDINGS: Heart normal.<br/>IMPRESSION: No effusion.",
        r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 FINDINGS: Heart normal.\par IMPRESSION: No effusion.\par}",
    ],
)
def test_sections_of_whole_reports(text):
    report = read_texts({"report": text})
    assert (report.findings, report.impression) == BOTH


def test_columns_of_sections_come_before_the_whole_report():
    report = read_texts({"report": "FINDINGS: Old. IMPRESSION: No effusion.", "findings": "Heart normal."})
    assert (report.findings, report.impression) == BOTH


def test_a_report_without_headers_is_findings():
    report = read_texts({"report": "Heart normal. No effusion."})
    assert (report.findings, report.impression) == ("Heart normal. No effusion.", None)


def test_letters_of_rtf_and_html():
    assert (
        read_texts({"findings": r"{\rtf1 Herz normal gro\'df, \u8222?links\par}"}).findings
        == "Herz normal groß, „links"
    )
    assert read_texts({"findings": "size &lt; 1 cm, p < 0.05"}).findings == "size < 1 cm, p < 0.05"


def test_no_text():
    with pytest.raises(LeftOutError, match="no report"):
        read_texts({"report": "  "})
