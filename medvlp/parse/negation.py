"""`medvlp parse negation`: measures the cue engine on the sentences of NegEx."""

from __future__ import annotations

import csv
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.cues import Mention
from medvlp.parse.existence import assess
from medvlp.parse.words import words

_COLUMNS = ("Report No.", "Concept", "Sentence", "Negation")


def negation(sentences: Path) -> None:
    """Print precision and recall of negation, and the sentences of the errors.

    Uncertain concepts count as affirmed, as in NegEx. A concept that its sentence does not contain word by word, such
    as one that continues in the next sentence, is printed and does not count.

    Args:
        sentences: Tab-separated file in Latin-1 with the columns Report No., Concept, Sentence and Negation (Affirmed
            or Negated), such as the annotated sentences of NegEx.

    Raises:
        UserError: If the file is missing, lacks a column, or no sentence contains its concept.
    """
    rows = _read(sentences)
    places = [locate(row["Concept"], row["Sentence"]) for row in rows]
    kinds: dict[str, list[dict[str, str]]] = {"right": [], "wrongly negated": [], "missed": [], "not found": []}
    right = 0
    for row, place in zip(rows, places, strict=True):
        if place is None:
            kinds["not found"].append(row)
            continue
        absent = assess(words(row["Sentence"]), [place]) == ["absent"]
        negated = row["Negation"] == "Negated"
        right += absent and negated
        kinds["right" if absent == negated else "wrongly negated" if absent else "missed"].append(row)
    judged = len(rows) - len(kinds["not found"])
    if not judged:
        raise UserError(f"--sentences {sentences}: no concept is found in its sentence. Check the columns.")
    wrong, missed = len(kinds["wrongly negated"]), len(kinds["missed"])
    console = Console(soft_wrap=True, highlight=False)
    for kind in ("wrongly negated", "missed", "not found"):
        for row in kinds[kind]:
            text = " ".join(row["Sentence"].split())
            console.print(f"[bold]{kind}[/]  report {row['Report No.']}, {escape(row['Concept'])!r}: {escape(text)}")
    console.print(f"{judged} concepts, {right + missed} negated; {len(kinds['not found'])} not found and left out")
    precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
    f1 = 2 * right / max(2 * right + wrong + missed, 1)
    console.print(f"Negated: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


def locate(concept: str, sentence: str) -> Mention | None:
    """Return the place of a concept in a sentence: its occurrence in capitals, else the first one, else None."""
    phrase, have = [w.text for w in words(concept)], words(sentence)
    matches = [
        Mention(i, i + len(phrase))
        for i in range(len(have) - len(phrase) + 1)
        if phrase and [w.text for w in have[i : i + len(phrase)]] == phrase
    ]
    capital = (m for m in matches if sentence[have[m.first].start : have[m.last - 1].end].isupper())
    return next(capital, next(iter(matches), None))


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="latin-1", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", restval="")
            lacking = [c for c in _COLUMNS if c not in (reader.fieldnames or ())]
            rows = list(reader)
    except OSError as error:
        raise NotFoundError(
            f"--sentences {path}: {error.strerror}. Give the tab-separated file of sentences."
        ) from None
    if lacking:
        raise UserError(f"--sentences {path}: no column {', '.join(lacking)}. Columns needed: {', '.join(_COLUMNS)}.")
    return rows
