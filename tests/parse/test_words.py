import pytest

from medvlp.parse.patterns import expand
from medvlp.parse.words import Phrases, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Right-sided effusion, 1.5 cm.", ["right", "sided", "effusion", ",", "1.5", "cm", "."]),
        ("chest x-XXXX and ___", ["chest", "x", "___", "and", "___"]),
        ("The patient\u2019s isn't", ["the", "patient's", "isn't"]),
        ("Œdème İ", ["œdème", "i̇"]),
        ("", []),
    ],
)
def test_words(text, expected):
    found = words(text)
    assert [w.text for w in found] == expected
    assert all(0 <= w.start < w.end <= len(text) for w in found)


def test_expand():
    assert set(expand("(small|) (nodule|mass)(es|)")) == {
        "small nodule",
        "small nodulees",
        "nodule",
        "nodulees",
        "small mass",
        "small masses",
        "mass",
        "masses",
    }


def test_the_longest_phrase_counts_and_the_first_of_two():
    phrases = Phrases([("pleural effusion", 1), ("effusion", 2), ("pericardial effusion", 3), ("effusion", 4)])
    found = phrases.find(words("Pericardial effusion, pleural or other effusion"))
    assert [(m.first, m.last, m.meaning) for m in found] == [(0, 2, 3), (6, 7, 2)]
