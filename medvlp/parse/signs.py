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

# A text of ASCII without any of these is plain already.
ODD = re.compile(r"[&<>|\t\r\f\v\\*~]")
ODD_PAIRS = ("- ", " -", "--", "->", "//", "=>", "   ", "..", " / ")

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
    "\N{BOX DRAWINGS LIGHT VERTICAL}\N{BOX DRAWINGS HEAVY VERTICAL}"
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

# Each alternative begins with another sign, so that the search is quick.
SIGN = re.compile(r"[-\N{EN DASH}\N{EM DASH}]+>?|=>|>+|//?|~|\*+|\N{MIDDLE DOT}|\.\.+|\|[ \t|]*|\t[ \t]*|   +")
# A hyphen with blanks that stays one: right - sided, follow- up, mild- to moderate; and a range: T8 - T10.
HEAD = re.compile(
    r"\b(?:non|x|post|pre|follow|semi|mid|re|sub|peri|intra|anti|de|co|well|ill|air|one|two|three|bi|t|ng|et)\s?$",
    re.IGNORECASE,
)
TAIL = re.compile(
    r"\s?(?:sided|rays?|up|based|sized|dependent|like|type|shaped|filled|operative|appearing|defined|lead|chamber|view"
    r"|tube)\b",
    re.IGNORECASE,
)
JOIN = re.compile(r"\s(?:to|and|or)\b", re.IGNORECASE)
DIGIT_BEFORE, DIGIT_BEHIND = re.compile(r"\d\s?$"), re.compile(r"\s?[A-Za-z]?\d")
LONGEST_HEAD, LONGEST_WORD = 8, 20
ITEM = re.compile(r"\s*(?!Left|Right)[A-Z][a-z]")
LOWER_BEFORE = re.compile(r"\b[a-z]+\s$")
EMPHASIS = re.compile(r"\w+\*")
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
    if text.isascii() and ODD.search(text) is None and not any(pair in text for pair in ODD_PAIRS):
        return text
    if "\r\n" in text:
        text = text.replace("\r\n", " \n")
    text = text.translate(PLAIN)
    if "<" in text or "&" in text or "\\" in text:
        text = ENTITY.sub(_character, TAG.sub(_tag, text))
    return SIGN.sub(_sign, text)


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
    """Return what stands for a sign, of the same length."""
    text, sign, start, end = match.string, match[0], match.start(), match.end()
    before, behind = text[start - 1 : start], text[end : end + 1]
    apart = not before.strip(), not behind.strip()
    kind = sign[0]
    if kind in "-\N{EN DASH}\N{EM DASH}":
        return _dash(text, sign, start, end)
    if kind in " \t":
        word = text[max(0, start - 8) : start].rstrip(" ")
        ends = (word[-1:].isalnum() or word[-1:] == ")") and (behind.isupper() or behind == "(")
        ends = ends and (kind == "\t" or text[end + 1 : end + 2].islower()) and not UNFINISHED.search(word)
    elif kind == "*" and len(sign) > 1:
        ends = all(apart)
    elif kind == "*":
        item = all(apart) or not (before.isalnum() or "*" in (before, behind) or EMPHASIS.match(text, end))
        return BULLET if item else sign
    elif kind == "\N{MIDDLE DOT}":
        return sign if before.isdigit() and behind.isdigit() else BULLET
    elif sign == ">":
        ends = apart[0] and ITEM.match(text, end) is not None
    elif kind == "~":
        ends = all(apart) or ((before.isalnum() or before == ".") and behind.isupper())
    elif sign == "/":
        # Effusion / pneumothorax is a list, `no effusion / Small nodule` are two items.
        ends = (
            all(apart)
            and ITEM.match(text, end) is not None
            and LOWER_BEFORE.search(text[max(0, start - LONGEST_WORD) : start]) is not None
        )
    elif kind == "/":
        ends = all(apart) or (before.isalnum() and behind.isalpha())
    else:  # => >> .. |
        ends = kind != "." or behind.isalnum()
    return "|".ljust(len(sign)) if ends else sign


def _dash(text: str, sign: str, start: int, end: int) -> str:
    """A dash between clauses becomes `|`. A hyphen inside a word stays; one with blanks around it becomes a blank."""
    before, behind = text[start - 1 : start], text[end : end + 1]
    if len(sign) > 1 or sign == "\N{EM DASH}":
        return "|".ljust(len(sign))
    if before.isalnum() and behind.isalnum():
        new = sign != "-" and before.islower() and behind.isupper() and text[end + 1 : end + 2].islower()
        return "|" if new else "-"
    if behind == "\n" and before.isalnum():
        return "-"
    head = text[max(0, start - LONGEST_HEAD) : start]
    if (DIGIT_BEFORE.search(head) and DIGIT_BEHIND.match(text, end)) or HEAD.search(head) or TAIL.match(text, end):
        return " "
    if before.isalnum() and JOIN.match(text, end):
        return " "
    glued_number = not before.strip() and behind.isdigit()
    return sign if glued_number or (before.isalnum() and not behind.isspace()) else "|"
