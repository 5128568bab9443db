"""Terms of chest radiology, as glossaries, label sets and reports use them, and the finding that each names.

`terms.csv` has a row for each: add one, and mend the vocabulary until it is found.
"""

import csv
from pathlib import Path

import pytest

from medvlp.parse import FINDINGS, parse_report

with Path(__file__).with_name("terms.csv").open(newline="") as file:
    TERMS = [(row["term"], row["finding"]) for row in csv.DictReader(file)]


def found(text):
    return {(t.finding, t.existence) for t in parse_report({"findings": text})}


@pytest.mark.parametrize(("term", "finding"), TERMS)
def test_terms(term, finding):
    assert finding in FINDINGS
    for text in (f"There is {term}.", f"{term.capitalize()}, unchanged.", f"{term.upper()}"):
        assert (finding, "present") in found(text), text
    denied = found(f"No {term}.")
    assert (finding, "absent") in denied
    assert {existence for _, existence in denied} == {"absent"}


def test_there_are_many_terms():
    assert len(TERMS) >= 800
    # Each finding is named by a term, except those that organs alone state, and small ones.
    assert len({finding for _, finding in TERMS}) >= 90


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Stable cardiomegaly and tortuous aorta, no failure.",
            "cardiomegaly present,tortuous aorta present,heart failure absent",
        ),
        ("No pnuemothorax or pleural effusoin.", "pneumothorax absent,pleural effusion absent"),
        ("IABP tip is 2 cm below the aortic arch.", "device present,tip present"),
        ("PA catheter and HD catheter.", "central line present"),
        ("Respiratory failure.", ""),
        ("Renal failure with edema.", "edema present"),
        ("Failure to wean.", ""),
        ("History of myocardial infarction.", ""),
        ("Intracranial hemorrhage.", ""),
        ("Nasal cannula.", ""),
        ("Multiple sclerosis.", ""),
        ("Pain at the left sternal border.", ""),
        ("The trachea is narrowed.", "airway narrowing present"),
        ("The left atrium is not enlarged.", "chamber enlargement absent"),
        ("Left atrium is enlarged.", "chamber enlargement present"),
        ("The esophagus is dilated.", "dilation present"),
        ("Lung volumes are high.", "hyperinflation present"),
        ("No pleural abnormality.", "pleural effusion absent"),
        ("Pleural abnormality.", ""),
        ("PleurX catheter in the right base.", "chest tube present"),
        ("Skin fold, not a pneumothorax.", "artifact present,pneumothorax absent"),
        ("Sternal fracture.", "fracture present"),
        ("Sternal wires are intact.", "sternotomy wires present"),
    ],
)
def test_words_in_sentences(text, expected):
    assert found(text) == {tuple(e.rsplit(" ", 1)) for e in expected.split(",") if e}


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("Mod. cardiomegaly.", "moderate"),
        ("Mod cardiomegaly.", "moderate"),
        ("Sl. cardiomegaly.", "mild"),
        ("Sm. pleural effusion.", "mild"),
        ("Min. pleural effusion.", "mild"),
        ("Lg. pleural effusion.", "severe"),
        ("Advanced emphysema.", "severe"),
    ],
)
def test_abbreviated_severities(text, severity):
    assert [t.severity for t in parse_report({"findings": text})] == [severity]
