"""The filter for short reports."""

from __future__ import annotations

import re

SENTENCE = re.compile(r"[0-9]*\.")
TOKEN = re.compile(r"\w+")
ASCII = re.compile(r"[\x00-\x7f]")


def has_words(findings: str | None, impression: str | None, minimum: int) -> bool:
    """Return whether a report is long enough.

    Source: the caption cleaning of MGCA `preprocess/mimic_cxr.py`. Sentences end at full stops. A number before a full
    stop enumerates and does not count. A token is a run of word characters, at least one of them ASCII. Sentences of
    one token do not count.

    Args:
        findings: Findings section; None if there is none.
        impression: Impression section; None if there is none.
        minimum: Least number of tokens in the report.
    """
    total = 0
    for sentence in SENTENCE.split(f"{impression or ''} {findings or ''}".lower()):
        if total >= minimum:
            break
        tokens = sum(1 for token in TOKEN.findall(sentence) if ASCII.search(token))
        total += tokens if tokens > 1 else 0
    return total >= minimum
