"""The reports of one's own table: with headers in other languages, with marks of HTML or RTF, or without a header."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import lru_cache

from medvlp.errors import LeftOutError
from medvlp.prepare.own.names import header_names
from medvlp.prepare.reports import read_report
from medvlp.prepare.study import Report
from medvlp.prepare.words import plain

# The beginning of a line of at most five words before a colon, that of Chinese, too, or alone on its line.
HEADER = re.compile(r"^[ \t]*([^\W\d_][^\n:\uff1a.]{1,40}?)[ \t]*(?:[:\uff1a]|$)", re.MULTILINE)
BREAK = re.compile(r"<br ?/?>|</(?:p|div|li|tr|h\d)>|\\par\b ?|\\line\b ?|\\\.br\\|\\X0[DA]\\|_x000D_", re.IGNORECASE)
TAG = re.compile(
    r"</?(?:p|div|span|b|i|u|li|ul|ol|tr|td|table|strong|em|font|h\d|html|body)\b[^<>]{0,200}>", re.IGNORECASE
)
RTF = "{\\rtf"
# Groups of RTF that hold no text, its letters by number, and its other words.
RTF_GROUP = re.compile(r"\{\\(?:\*|fonttbl|colortbl|stylesheet|info|pict)(?:[^{}]|\{[^{}]*\})*\}")
RTF_LETTER = re.compile(r"\\'([0-9a-fA-F]{2})|\\u(-?\d{1,5})\??")
RTF_WORD = re.compile(r"\\[a-zA-Z]{1,32}-?\d* ?|[{}]")


def read_texts(texts: Mapping[str, str]) -> Report:
    r"""Return the sections of a report.

    The rules are those of `medvlp.parse.sections`, with the headers of words.yaml. A whole report without any header of
    Findings or Impression is Findings.

    Args:
        texts: Its fields by `report`, `findings` and `impression`.

    Raises:
        LeftOutError: If all are empty.

    Example:
        >>> read_texts({"report": "Befund: Herz normal.\nBeurteilung: Kein Erguss."}).impression
        'Kein Erguss.'
    """
    cleaned = {name: with_english_headers(without_marks(text)) for name, text in texts.items() if text.strip()}
    if not cleaned:
        raise LeftOutError("no report")
    # A column of this name may hold any section.
    report = read_report(cleaned)
    if report.findings is None and report.impression is None and "report" in cleaned:
        whole = cleaned["report"].strip()
        return Report(whole or None, None, report.utf8, report.headers)
    return report


def without_marks(text: str) -> str:
    """Return a text without the marks of HTML and RTF, its breaks as breaks of lines.

    Example:
        >>> without_marks("<p>Clear.<br>No effusion &amp; no mass.</p>").splitlines()
        ['Clear.', 'No effusion & no mass.']
    """
    if text.startswith(RTF):
        text = RTF_GROUP.sub("", text)
        text = BREAK.sub("\n", text)
        text = RTF_LETTER.sub(_letter, text)
        text = RTF_WORD.sub("", text)
    elif "<" in text or "\\" in text or "_x000D_" in text:
        text = TAG.sub("", BREAK.sub("\n", text))
    return html.unescape(text) if "&" in text else text


def _letter(match: re.Match[str]) -> str:
    if match[1]:
        return bytes([int(match[1], 16)]).decode("cp1252", "replace")
    number = int(match[2]) % 0x10000
    return "" if 0xD800 <= number < 0xE000 else chr(number)


@lru_cache(maxsize=1)
def _headers() -> dict[str, str]:
    return header_names()


def with_english_headers(text: str) -> str:
    """Return a text in which the headers of other languages are English."""

    def english(match: re.Match[str]) -> str:
        name = _headers().get(plain(match[1]))
        return f"{name}:" if name else match[0]

    return HEADER.sub(english, text)
