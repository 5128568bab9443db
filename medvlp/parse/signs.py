"""A copy of a text in which signs of layout are plain: HTML, dashes, bars, arrows, bullets and tabs.

The copy has the length of the text, so that spans in it are spans of the text. It has no other sign between clauses
than `|`, no other bullet than `BULLET`, and no other line break than a line feed.
"""

from __future__ import annotations

import html
import re

BULLET = "\N{BULLET}"
# Fills the place of an HTML apostrophe, so that `isn&#39;t` stays one word.
FILLER = "\0"

# A text without any of these is plain already.
ODD = re.compile(r"[^\x00-\x7f]|[&<>|\t\r\f\v\\*~]|-[->]| -|- |//|=>|   |\.\.\w")

_EVERYWHERE = {
    " ": "\N{NO-BREAK SPACE}\N{EN SPACE}\N{EM SPACE}\N{THIN SPACE}\N{FIGURE SPACE}\N{NARROW NO-BREAK SPACE}"
    "\N{IDEOGRAPHIC SPACE}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{WORD JOINER}"
    "\N{ZERO WIDTH NO-BREAK SPACE}",
    "\n": "\r\f\v\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}",
    "'": "\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}",
    '"': "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}",
    "-": "\N{HYPHEN}\N{NON-BREAKING HYPHEN}",
    "\N{EN DASH}": "\N{FIGURE DASH}\N{MINUS SIGN}",
    "\N{EM DASH}": "\N{HORIZONTAL BAR}",
    "|": "\N{BROKEN BAR}\N{DOUBLE VERTICAL LINE}\N{RIGHTWARDS ARROW}\N{RIGHTWARDS DOUBLE ARROW}"
    "\N{LONG RIGHTWARDS ARROW}\N{HEAVY WIDE-HEADED RIGHTWARDS ARROW}\N{BLACK RIGHTWARDS ARROW}"
    "\N{FULLWIDTH VERTICAL LINE}",
    ";": "\N{HORIZONTAL ELLIPSIS}\N{FULLWIDTH SEMICOLON}",
    ":": "\N{FULLWIDTH COLON}",
    ".": "\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH FULL STOP}",
    ",": "\N{FULLWIDTH COMMA}\N{IDEOGRAPHIC COMMA}",
    "?": "\N{FULLWIDTH QUESTION MARK}",
    "(": "\N{FULLWIDTH LEFT PARENTHESIS}",
    ")": "\N{FULLWIDTH RIGHT PARENTHESIS}",
    BULLET: "\N{TRIANGULAR BULLET}\N{HYPHEN BULLET}\N{WHITE BULLET}\N{BLACK SMALL SQUARE}\N{WHITE SMALL SQUARE}"
    "\N{BLACK SQUARE}\N{WHITE SQUARE}\N{BLACK CIRCLE}\N{WHITE CIRCLE}\N{BLACK DIAMOND}\N{LOZENGE}"
    "\N{BLACK RIGHT-POINTING TRIANGLE}\N{BLACK RIGHT-POINTING POINTER}\N{THREE-D TOP-LIGHTED RIGHTWARDS ARROWHEAD}"
    "\N{CHECK MARK}\N{HEAVY CHECK MARK}\N{PILCROW SIGN}\N{SECTION SIGN}"
    "\N{BULLET OPERATOR}\N{DOT OPERATOR}\N{HYPHENATION POINT}\N{KATAKANA MIDDLE DOT}\uf0b7\uf0a7",
}
PLAIN = str.maketrans({sign: plain for plain, signs in _EVERYWHERE.items() for sign in signs})

# A tag, plain or written with entities. A `<` with a number behind it is none.
TAG = re.compile(
    r"(?:<|&lt;)/?(?P<block>p|div|li|ul|ol|tr|table|h[1-6])\b[^<>&\n]{0,200}(?:>|&gt;)"
    r"|(?:<|&lt;)br\b[^<>&\n]{0,80}(?:>|&gt;)|(?P<escape>\\\.br\\|\\r\\n|\\n)"
    r"|(?:<|&lt;)/?(?P<cell>td|th)\b[^<>&\n]{0,200}(?:>|&gt;)"
    r"|(?:<|&lt;)/?(?:b|i|u|s|em|strong|span|font|sub|sup|pre|body|html|center|small|big)\b[^<>&\n]{0,200}(?:>|&gt;)",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:#\d{1,5}|#x[\da-f]{1,4}|[a-z]{2,8});", re.IGNORECASE)

# A hyphen with blanks that stays one: right - sided, follow- up, mild- to moderate; and a range: T8 - T10.
_HEADS = "non|x|post|pre|follow|semi|mid|re|sub|peri|intra|anti|de|co|well|ill|air|one|two|three|right|left|bi|t|ng|et"
_TAILS = (
    "sided|ray|rays|up|based|sized|dependent|like|type|shaped|filled|operative|appearing|defined|lead|chamber|view|tube"
)
CLAUSE = re.compile(
    r"(?P<range>\d ?[-\N{EN DASH}] ?[A-Za-z]?\d)"
    rf"|(?P<hyphen>(?i:\b(?:{_HEADS}) ?- ?(?:{_TAILS})\b|\w ?- (?:{_TAILS})\b|\w- (?:to|and|or)\b|\b(?:{_HEADS})- )"
    r"|(?<=\w)-(?=\n)|(?<=\w)\N{EN DASH}(?=\w)(?!(?<=[a-z].)[A-Z][a-z]))"
    # A spaced or doubled dash, an em dash, and a hyphen that is glued to one of two words.
    r"|(?P<sign>(?<=\s)-{1,3}>?(?=\s)|(?<=\w)--+>?|--+>?(?=\w)|(?<=[ \t])-(?=[^\W\d_])|(?<=[\w)])-(?= +\w)"
    r"|\N{EM DASH}+|\N{EN DASH}+|=>|->|>>|(?<=\s)//(?=\s)|(?<=\w)//(?=[^\W\d_])|(?<=[\w.])~(?=[A-Z])|(?<=\s)~(?=\s)"
    r"|(?<=\s)>(?=\s*[A-Z][a-z])(?!\s*(?:Left|Right)\b))"
    # A gap between two columns.
    r"|(?P<gap>(?<=[\w)])(?: *\t[ \t]*(?=[A-Z(])| {3,}(?=[A-Z][a-z])))"
    r"|(?P<dots>\.{2,}(?=\w))"
    r"|(?P<bars>\|[ \t|]*\|)"
    r"|(?P<bullet>(?<!\d)\N{MIDDLE DOT}|\N{MIDDLE DOT}(?!\d)|(?<![\w*])\*(?=[ \t]*\w)(?!\w+\*)|(?:(?<=\s)|^)\*(?=\s))"
)
# A gap behind one of these words ends no clause.
UNFINISHED = re.compile(r"\b(?:no|of|the|a|an|and|or|with|without|in|at|to|for|is|are)$", re.IGNORECASE)


def plain_signs(text: str) -> str:
    r"""Return a text of the same length with plain signs of layout.

    Args:
        text: Of a report, or a part of one.

    Example:
        >>> plain_signs("No effusion&nbsp;-- nodule &lt; 6 mm<br>Heart normal.")
        'No effusion      |  nodule <    6 mm\n   Heart normal.'
    """
    if ODD.search(text) is None:
        return text
    if "\r\n" in text:
        text = text.replace("\r\n", " \n")
    text = text.translate(PLAIN)
    if "<" in text or "&" in text or "\\" in text:
        text = ENTITY.sub(_character, TAG.sub(_tag, text))
    return CLAUSE.sub(_sign, text)


def _tag(match: re.Match[str]) -> str:
    """`<br>` and `<p>` end a line, `<td>` a column, `<b>` nothing."""
    length = match.end() - match.start()
    if match["cell"]:
        return "|".ljust(length)
    ends_line = match["block"] or match["escape"] or "br" in match[0][:6].lower()
    return ("\n\n" if match["block"] else "\n" if ends_line else "").ljust(length)


def _character(match: re.Match[str]) -> str:
    """`&lt;` is a sign, and not the word lt (left)."""
    length = match.end() - match.start()
    character = html.unescape(match[0]).translate(PLAIN)
    if len(character) != 1:
        return match[0]
    return character.ljust(length, FILLER if character == "'" else " ")


def _sign(match: re.Match[str]) -> str:
    length = match.end() - match.start()
    if match["hyphen"]:
        return match[0].replace("\N{EN DASH}", "-")
    if match["range"]:
        return match[0].replace(" -", "- ").replace(" \N{EN DASH}", "- ").replace("\N{EN DASH}", "-")
    if match["gap"] and UNFINISHED.search(match.string, max(0, match.start() - 8), match.start()):
        return match[0]
    return (BULLET if match["bullet"] else "|").ljust(length)
