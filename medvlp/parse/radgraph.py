"""The triplets of RadGraph's inference file, for those who have it.

The file is one JSON object: report -> `text`, with blanks between the words, and `entities`: id -> `tokens`, `label`
(ANAT-DP, OBS-DP, OBS-U or OBS-DA; RadGraph-XL writes Observation::definitely present and so on), `start_ix` and
`end_ix` (first and last word), `relations` ([kind, id] with kind modify, located_at or suggestive_of).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.attachment import attach
from medvlp.parse.cues import Existence
from medvlp.parse.mentions import spoken
from medvlp.parse.report import Triplet, denied
from medvlp.parse.sentences import split
from medvlp.parse.sharing import share
from medvlp.parse.words import Word, words

EXISTENCE: dict[str, Existence] = {
    "OBS-DP": "present",
    "OBS-U": "uncertain",
    "OBS-DA": "absent",
    # RadGraph-XL writes the words out.
    "Observation::definitely present": "present",
    "Observation::uncertain": "uncertain",
    "Observation::definitely absent": "absent",
}
SECTION = "report"
STUDY = re.compile(r"^(?:s(?=\d))?(.*?)(?:\.txt)?$")

Entity = Mapping[str, Any]


def read_radgraph(path: Path) -> Iterator[tuple[str, list[Triplet]]]:
    """Yield the reports of a RadGraph file and their triplets.

    Args:
        path: JSON file; p10/p10000032/s50414267.txt is the report 50414267, as the tables of MIMIC-CXR call it.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If it is no RadGraph file.
    """
    if not path.is_file():
        raise NotFoundError(f"radgraph='{path}' is not there.")
    try:
        reports = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"radgraph='{path}' is no JSON: {error}.") from error
    if not isinstance(reports, dict):
        raise UserError(f"radgraph='{path}' must map reports to their text and entities, as RadGraph's inference does.")
    for name, report in reports.items():
        try:
            study = STUDY.sub(r"\1", Path(name).name)
            yield study, triplets(report["text"], report["entities"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"radgraph='{path}', report '{name}' is not as RadGraph writes it: {error!r}.") from error


def triplets(text: str, entities: Mapping[str, Entity]) -> list[Triplet]:
    """Return the triplets of one report.

    Each observation is read as a phrase: its words and those of its modifiers and locations, in the order of the text.
    Names, regions and sides are therefore those of the vocabulary; only the existence is RadGraph's. Observations
    outside the vocabulary are dropped.

    Args:
        text: The report.
        entities: The entities of RadGraph, by id.
    """
    tokens = [match.span() for match in re.finditer(r"\S+", text)]
    sentences = split(text)
    starts = [start for start, _ in sentences]
    modifiers: dict[str, list[str]] = defaultdict(list)
    for name, entity in entities.items():
        for kind, target in entity["relations"]:
            if kind == "modify":
                modifiers[target].append(name)
    results: dict[Triplet, None] = {}
    for name, entity in sorted(entities.items(), key=lambda item: item[1]["start_ix"]):
        if entity["label"] not in EXISTENCE or any(_modifies(r, entities) for r in entity["relations"]):
            continue
        located = [target for kind, target in entity["relations"] if kind == "located_at"]
        joined = {name, *modifiers[name], *located, *(m for target in located for m in modifiers[target])}
        phrase = [w for part in joined for w in _words(text, tokens, entities[part])]
        phrase.sort(key=lambda word: word.start)
        core = {w.start for w in _words(text, tokens, entity)}
        number = max(bisect_right(starts, tokens[entity["start_ix"]][0]) - 1, 0)
        for triplet in _read(phrase, core, EXISTENCE[entity["label"]], text, number, sentences):
            results[triplet] = None
    return list(results)


def _modifies(relation: tuple[str, str], entities: Mapping[str, Entity]) -> bool:
    """Return whether a relation makes its entity a modifier of another observation."""
    kind, target = relation
    return kind == "modify" and entities[target]["label"] in EXISTENCE


def _words(text: str, tokens: list[tuple[int, int]], entity: Entity) -> list[Word]:
    start, end = tokens[entity["start_ix"]][0], tokens[entity["end_ix"]][1]
    return [Word(w.text, w.start + start, w.end + start) for w in words(text[start:end])]


def _read(
    phrase: list[Word],
    core: set[int],
    existence: Existence,
    text: str,
    number: int,
    sentences: list[tuple[int, int]],
) -> Iterator[Triplet]:
    findings = [s for s in spoken(phrase) if any(phrase[i].start in core for i in range(s.first, s.last))]
    start, end = sentences[number]
    candidates = attach(phrase, findings)
    for candidate in candidates:
        candidate.existence = denied(existence) if candidate.spoken.denied else existence
    share(phrase, candidates)
    for c in candidates:
        if c.spoken.deniable and c.existence != "absent":
            continue
        yield Triplet(
            SECTION,
            number,
            text[start:end],
            c.located.regions,
            c.located.side,
            c.spoken.finding,
            c.existence,
            None if c.existence == "absent" else c.severity,
            phrase[c.spoken.first].start,
            phrase[c.spoken.last - 1].end,
        )
