"""The lines of a report file, and the ways in which hospitals write its headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medvlp.phantom.world import Sentence, Study, stream

_LINE = 78
# Share of the reports that are not in the way of MIMIC-CXR.
_OTHERS = 0.15


@dataclass(frozen=True)
class Style:
    """A way to write the headers of a report.

    Attributes:
        name: Its name.
        pattern: The header as it is written, with `{}` for its words.
        words: Changes the case of the words.
        findings: Words of the header of Findings to choose from; none for FINDINGS.
        impression: Words of the header of Impression to choose from; none for those of MIMIC-CXR.
        newline: End of a line.
        own_line: Whether the section begins on the next line.
        glued: Whether no blank follows the header.
        joined: Whether all sections are in one paragraph.
        parts: Whether Findings have a header for each organ.
    """

    name: str
    pattern: str = "{}:"
    words: Callable[[str], str] = str
    findings: tuple[str, ...] = ()
    impression: tuple[str, ...] = ()
    newline: str = "\n"
    own_line: bool = False
    glued: bool = False
    joined: bool = False
    parts: bool = False


MIMIC = Style("mimic")
VIEWS = Style("views")
OTHERS = (
    VIEWS,
    Style("contains", findings=("FINDINGS (CHEST)", "PRELIMINARY FINDINGS", "CHEST FINDINGS", "FINDINGS, TWO VIEWS")),
    Style("parts", parts=True),
    Style("titles", words=str.capitalize),
    Style("title parts", words=str.capitalize, parts=True),
    Style("lower case", words=str.lower),
    Style("glued", glued=True),
    Style("bold", "**{}:**", str.capitalize),
    Style("hashes", "## {}", str.capitalize, own_line=True),
    Style("bare", "{}", own_line=True),
    Style("underlined", "{}\n ----------", str.capitalize, own_line=True),
    Style("brackets", "[{}]", own_line=True),
    Style("one paragraph", joined=True),
    Style("titles in one paragraph", words=str.capitalize, joined=True),
    Style("other words", findings=("REPORT", "DESCRIPTION"), impression=("OPINION", "INTERPRETATION", "SUMMARY")),
    Style("radiographic", words=str.capitalize, findings=("RADIOGRAPHIC FINDINGS",), impression=("CONCLUSIONS",)),
    Style("wide", "\u00a0{}\uff1a"),
    Style("blank before the colon", "{} :"),
    Style("windows", "{}:\t", newline="\r\n"),
)
# Headers of MIMIC-CXR that name the views instead of FINDINGS.
_VIEW_HEADERS = {
    "AP": ("PORTABLE AP CHEST", "AP VIEW OF THE CHEST", "CHEST, PORTABLE", "ONE VIEW OF THE CHEST"),
    "PA": ("CHEST", "FRONTAL VIEW OF THE CHEST", "PA VIEW OF THE CHEST"),
    "LATERAL": ("PA AND LATERAL CHEST", "CHEST, TWO VIEWS", "FRONTAL AND LATERAL VIEWS", "PA AND LAT CHEST"),
}


def style_of(study: Study) -> Style:
    """Return the style of the report of a study; it does not change what the report says."""
    rng = stream(study.key, 32)
    style = OTHERS[int(rng.integers(len(OTHERS)))] if rng.random() < _OTHERS else MIMIC
    if style is VIEWS:
        views = {shot.view for shot in study.shots}
        view = next(view for view in ("LATERAL", "AP", "PA") if view in views)
        return replace(style, findings=(_pick(_VIEW_HEADERS[view], rng),))
    findings = (_pick(style.findings, rng),) if style.findings else ()
    impression = (_pick(style.impression, rng),) if style.impression else ()
    return replace(style, findings=findings, impression=impression)


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


class Page:
    """The lines of a report as in MIMIC-CXR, wrapped, with a leading blank, and the spans of its sentences."""

    def __init__(self, style: Style = MIMIC) -> None:
        """Begin an empty page.

        Args:
            style: How its headers are written.
        """
        self.style = style
        self.text = ""
        self.sentences: list[Sentence] = []
        self._newline = style.newline
        # Where words go on behind a header without a blank.
        self._behind_header = -1

    def header(self, text: str, indent: int) -> None:
        """Add the first line."""
        self.text += " " * indent + text + self._newline

    def lines(self, *lines: str) -> None:
        """Add lines as they are."""
        self.text += "".join(f" {line}{self._newline}" for line in lines)

    def title(self, words: str) -> None:
        """Begin a section; its words may follow on the same line."""
        style = self.style
        if style.findings and words in ("FINDINGS", "FINDING"):
            words = style.findings[0]
        if style.impression and words.upper().startswith(("IMPRESSION", "CONCLUSION")):
            words = style.impression[0]
        self._header(words)

    def paragraph(self, text: str) -> None:
        """Add text without sentences of record."""
        self._words(text.split())
        self._end()

    def section(self, name: str, sentences: Sequence[Sentence], numbered: bool = False) -> None:
        """Add sentences and record their spans."""
        self._after_title()
        self._add(name, sentences, numbered and not self.style.joined)

    def parts(self, name: str, blocks: Sequence[tuple[str, Sequence[Sentence]]]) -> None:
        """Add a section of blocks of sentences, with a header for each of them if the style has such headers."""
        if not self.style.parts:
            self.section(name, [sentence for _, block in blocks for sentence in block])
            return
        self._end()
        for words, block in blocks:
            if block:
                self.text += f" {self.style.words(words)}:"
                self._add(name, block)

    def _header(self, words: str) -> None:
        style = self.style
        text = style.pattern.format(style.words(words)).replace("\n", self._newline)
        if style.joined and not self.text.endswith(self._newline):
            self.text += f" {text}"
        else:
            self.text += f" {self._newline} {text}"
        if style.own_line:
            self.text += self._newline
        if style.glued:
            self._behind_header = len(self.text)

    def _after_title(self) -> None:
        style = self.style
        if style.pattern == MIMIC.pattern and self.text.endswith(":") and not (style.glued or style.joined):
            self.text += f"{self._newline} {self._newline}"

    def _add(self, name: str, sentences: Sequence[Sentence], numbered: bool = False) -> None:
        for i, sentence in enumerate(sentences):
            if numbered:
                self.text += (self._newline if i else "") + f" {i + 1}. "
            start, end = self._words(sentence.text.split())
            self.sentences.append(replace(sentence, section=name, start=start, end=end))
        self._end()

    def _end(self) -> None:
        self.text += "" if self.style.joined else self._newline

    def _words(self, words: list[str]) -> tuple[int, int]:
        start = -1
        for word in words:
            column = len(self.text) - self.text.rfind("\n") - 1
            if column + 1 + len(word) > _LINE:
                self.text += f"{self._newline} "
            elif len(self.text) != self._behind_header and (not self.text.endswith((" ", "\t")) or column == 0):
                self.text += " "
            start = len(self.text) if start < 0 else start
            self.text += word
        return start, len(self.text)
