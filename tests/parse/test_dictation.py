"""How radiologists dictate: the sentences of `dictation.txt`, which says how they are written."""

import re
from pathlib import Path

import pytest

from medvlp.parse import FINDINGS
from medvlp.parse.report import parse_report, parse_sentence

KINDS = {"+": "present", "-": "absent", "?": "uncertain"}
TABLE = Path(__file__).with_name("dictation.txt")


def rows(regions):
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if " => " in line and not line.startswith("#"):
            sentence, expected = line.split(" => ")
            if (" @ " in expected) == regions:
                yield sentence, expected


def statements(sentence):
    if sentence.startswith("~ "):
        return parse_sentence(sentence.removeprefix("~ "))
    return parse_report({"findings": sentence})


def read(expected):
    """Triplets by finding: the allowed existences, the side and the severity."""
    wanted = {}
    for part in expected.split("; "):
        signs, text = re.fullmatch(r"([-+?!]+)(.*)", part).groups()
        words = text.split()
        severity = words.pop() if words[-1] in ("mild", "moderate", "severe") else None
        side = words.pop() if words[-1] in ("left", "right", "bilateral") else None
        finding = " ".join(words)
        assert finding in FINDINGS
        triplets = wanted.setdefault(finding, [])
        if signs != "!":
            triplets.append(({KINDS[sign] for sign in signs}, side, severity))
    return wanted


def is_same(statement, triplet):
    existences, side, severity = triplet
    return statement.existence in existences and statement.side == side and severity in (None, statement.severity)


@pytest.mark.parametrize(("sentence", "expected"), list(rows(regions=False)))
def test_triplets(sentence, expected):
    found = statements(sentence)
    for finding, wanted in read(expected).items():
        have = [s for s in found if s.finding == finding]
        for triplet in wanted:
            match = next((s for s in have if is_same(s, triplet)), None)
            assert match is not None, (triplet, [(s.existence, s.side, s.severity) for s in have])
            have.remove(match)
        assert not have, finding


@pytest.mark.parametrize(("sentence", "expected"), list(rows(regions=True)))
def test_regions(sentence, expected):
    finding, names = expected.split(" @ ")
    regions = {region for s in statements(sentence) if s.finding == finding for region in s.regions}
    assert regions == set(names.split(", "))
