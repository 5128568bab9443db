"""When a report is too short."""

from __future__ import annotations

import re

SENTENCE = re.compile(r"[0-9]*\.")
TOKEN = re.compile(r"\w+")
ASCII = re.compile(r"[\x00-\x7f]")


def has_words(findings: str | None, impression: str | None, minimum: int) -> bool:
    """Return whether a report is long enough.

    Source: the caption cleaning of MGCA `preprocess/mimic_cxr.py`. Sentences end at full stops; numbers that end in
    one enumerate and do not count; a token is a run of word characters of which some are ASCII; sentences of one token
    do not count.

    Args:
        findings: Section, if there is one.
        impression: Section, if there is one.
        minimum: Least number of tokens in all.
    """
    total = 0
    for sentence in SENTENCE.split(f"{impression or ''} {findings or ''}".lower()):
        if total >= minimum:
            break
        tokens = sum(1 for token in TOKEN.findall(sentence) if ASCII.search(token))
        total += tokens if tokens > 1 else 0
    return total >= minimum
