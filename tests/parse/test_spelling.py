import csv
import re

import pytest

from medvlp.parse import parse_report
from medvlp.parse.patterns import expand, read
from medvlp.parse.spelling import FILES, corrections, errors, texts

RIGHT = corrections()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("No pnuemothorax.", "pneumothorax"),
        ("No penumothorax.", "pneumothorax"),
        ("No pneumothorx.", "pneumothorax"),
        ("No pleural effusoin.", "pleural effusion"),
        ("No plueral efusion.", "pleural effusion"),
        ("No effussion.", "pleural effusion"),
        ("No cardiomegally.", "cardiomegaly"),
        ("No cardiomegaley.", "cardiomegaly"),
        ("No atelectesis.", "atelectasis"),
        ("No atalectasis.", "atelectasis"),
        ("No consoldation.", "consolidation"),
        ("No consolidaton.", "consolidation"),
        ("No infiltarte.", "infiltration"),
        ("No pnemonia.", "pneumonia"),
        ("No emphyesma.", "emphysema"),
        ("No granulma.", "granuloma"),
        ("No lymphadenopaty.", "lymphadenopathy"),
        ("No bronchiectesis.", "bronchiectasis"),
        ("No elevated hemidiaphram.", "elevated hemidiaphragm"),
        ("No frakture.", "fracture"),
    ],
)
def test_typing_errors(text, finding):
    found = parse_report({"findings": text})
    assert [(t.finding, t.existence) for t in found] == [(finding, "absent")]
    assert text[found[0].start : found[0].end] in text


@pytest.mark.parametrize(
    "word",
    ["infusion", "confusion", "conclusion", "infiltrated", "respiration", "articular", "emphasis", "enema", "module"],
)
def test_words_that_are_right(word):
    assert word not in RIGHT


def test_no_word_of_the_vocabulary_is_changed():
    known = {w for name in FILES for text in texts(read(name)) for phrase in expand(text) for w in phrase.split()}
    assert known.isdisjoint(RIGHT)
    assert set(RIGHT.values()) <= set(read("spelling")["words"])
    assert all(len(word) >= 8 for word in read("spelling")["words"])


def test_errors():
    assert {"fracure", "fractuer", "frackture", "fractura", "rfacture", "fractures"} <= set(errors("fracture"))
    assert "racture" not in set(errors("fracture"))


def test_open_i_has_no_false_corrections(shared_data):
    """Each word of the real reports that is changed is a typing error."""
    with open(shared_data / "openi/indiana_reports.csv", newline="", encoding="utf-8") as file:
        text = " ".join(row["findings"] + " " + row["impression"] for row in csv.DictReader(file)).lower()
    changed = {word: RIGHT[word] for word in set(re.findall(r"[a-z]+", text)) if word in RIGHT}
    assert changed == {"vasculatures": "vasculature"}
