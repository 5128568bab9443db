"""The parser against the human coding of Open-I; each bound is the goal, not what is reached."""

import csv
import time

import pytest

import medvlp.parse.report
from medvlp.parse import parse_report
from medvlp.parse.agreement import Assertion, label_scores, side_scores

pytestmark = pytest.mark.slow

SCORED = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Emphysema",
    "Nodule",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Pleural_Thickening",
)


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def open_i(shared_data):
    return shared_data / "openi"


@pytest.fixture(scope="module")
def studies(open_i):
    columns = ("findings", "impression")
    return {row["uid"]: {name: row[name] for name in columns} for row in rows(open_i / "indiana_reports.csv")}


def parsed(studies, *sections):
    return {
        uid: [
            Assertion(t.text, t.finding, t.existence, t.side)
            for t in parse_report({name: text for name, text in study.items() if name in sections})
        ]
        for uid, study in studies.items()
    }


def test_human_coding(open_i, studies):
    table = rows(open_i / "reference/findings_gold.csv")
    said = parsed(studies, "findings", "impression")
    scores = label_scores(said, table, "uid", "nih", {name: name for name in SCORED}, "absent")
    for score in scores:
        if len(score.hits) + len(score.misses) >= 30:
            assert score.f1 >= 0.85, score.label
    hits = sum(len(s.hits) for s in scores)
    errors = sum(len(s.excess) + len(s.misses) for s in scores)
    assert 2 * hits / (2 * hits + errors) >= 0.92


def test_polarity_of_the_chexpert_labeler(open_i, studies):
    table = rows(open_i / "reference/chexpert_labeler.csv")
    goals = {"Pleural Effusion": 0.98, "Pneumothorax": 0.98, "Edema": 0.93}
    said = parsed(studies, "findings")
    for score in label_scores(said, table, "uid", "chexpert", {name: name for name in goals}, "absent"):
        assert score.agreement >= goals[score.label], score.label


def test_sides(open_i, studies):
    table = rows(open_i / "reference/finding_locations_gold.csv")
    sides = side_scores(parsed(studies, "findings", "impression"), table, "uid")
    assert sum(sides.compared.values()) > 500
    assert sum(sides.right.values()) / sum(sides.compared.values()) >= 0.85


def test_speed(studies, monkeypatch):
    monkeypatch.setattr(medvlp.parse.report, "CACHED_LENGTH", -1)  # no sentence is known from before
    some = list(studies.values())[:1000]
    start = time.process_time()
    for study in some:
        parse_report(study)
    # The goal is 2,000 a second on an idle core; a busy one gets a margin.
    assert len(some) / (time.process_time() - start) > 500
