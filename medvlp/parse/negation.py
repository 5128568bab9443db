"""`medvlp parse negation`: the cue engine measured on the sentences of NegEx."""

from __future__ import annotations

import csv
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.cues import Mention, assess
from medvlp.parse.words import words

_COLUMNS = ("Report No.", "Concept", "Sentence", "Negation")


def negation(sentences: Path) -> None:
    """Print how well negation is told from affirmation, and the sentences behind the errors.

    Uncertain concepts count as affirmed, as in NegEx. A concept that is not in its sentence word by word, such as one
    that runs on into the next sentence, is listed and left out of the figures.

    Args:
        sentences: Tab-separated file in Latin-1 with the columns Report No., Concept, Sentence and Negation (Affirmed
            or Negated), such as the annotated sentences of NegEx.

    Raises:
        UserError: The file is not there, lacks a column, or holds no concept that can be found in its sentence.
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
    """Return where a concept is in a sentence: the occurrence in capitals, or else the first; None where it is not."""
    wanted, have = [w.text for w in words(concept)], words(sentence)
    found = [
        Mention(i, i + len(wanted))
        for i in range(len(have) - len(wanted) + 1)
        if wanted and [w.text for w in have[i : i + len(wanted)]] == wanted
    ]
    capital = (m for m in found if sentence[have[m.first].start : have[m.last - 1].end].isupper())
    return next(capital, next(iter(found), None))


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
