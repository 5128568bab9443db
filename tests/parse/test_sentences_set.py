"""The table of sentences with their right triplets, the parser on it, and its comparison with the parser."""

import csv
import itertools
import math
import random
import re
from pathlib import Path

import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.score import score
from medvlp.parse.sentence_set import Answer, Sentence, Tally, compare, matched, parse_triplet, read_sentences

FOLDER = Path(__file__).parent / "sentences"
# What the parser reaches; raise it with the parser.
FLOORS = {"tuning": 0.98, "held_out": 0.95}


def rows(half):
    path = FOLDER / f"{half}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the tests")
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("half", "floor"), FLOORS.items())
def test_the_parser_reads_the_sentences(half, floor):
    tally = Tally()
    for sentence in read_sentences(rows(half)):
        tally.add(compare(sentence))
    assert tally.f1 >= floor


@pytest.mark.parametrize("half", FLOORS)
def test_a_half_is_large_and_of_all_kinds(half):
    table = rows(half)
    kinds = [row["kind"] for row in table]
    described = set(re.findall(r"^\| ([a-z ]+) \| [A-Z]", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert set(kinds) == described - {"id", "kind", "text", "triplets", "note"}
    assert len(table) >= 320
    assert kinds.count("ordinary") / len(table) >= 0.25
    # A spreadsheet takes such a text for a formula.
    assert not [row["id"] for row in table if row["text"][0] in "-=+@"]


def test_the_halves_share_no_sentence():
    tuning, held_out = rows("tuning"), rows("held_out")
    for column in ("id", "text"):
        values = [" ".join(row[column].lower().split()) for row in tuning + held_out]
        assert len(set(values)) == len(values)


def sentence(triplets, text="A text."):
    (one,) = read_sentences([{"id": "1", "kind": "k", "text": text, "triplets": triplets}])
    return one


def answers(*said):
    return {Answer(finding, existence, side): {None} for finding, existence, side in said}


def counts(comparison):
    return len(comparison.hits), len(comparison.misses), len(comparison.excess)


def slow_counts(expected, given):
    """Try every way to assign answers to triplets; the best has most required triplets, then fewest answers left."""
    places = [*range(len(expected)), *[None] * len(given)]
    best = (0, 0)
    for chosen in set(itertools.permutations(places, len(given))):
        pairs = [(expected[n], a) for n, a in zip(chosen, given, strict=True) if n is not None]
        if all(e.accepts(a) for e, a in pairs):
            best = max(best, (sum(not e.optional for e, _ in pairs), len(pairs)))
    hits, used = best
    return hits, sum(not e.optional for e in expected) - hits, len(given) - used


def test_the_comparison_is_that_of_a_slow_loop():
    rng = random.Random(0)
    findings, existences, sides = ("edema", "mass", "nodule"), ("present", "absent", "uncertain"), ("left", "none")

    def some(options):
        return "|".join(rng.sample(options, rng.choice([1, 1, len(options)])))

    results = set()
    for _ in range(300):
        parts = [f"{some(findings)} {some(existences)} {some(sides)}" for _ in range(rng.randint(0, 4))]
        one = sentence(";".join(f"({p})" if rng.random() < 0.3 else p for p in parts))
        given = answers(
            *[
                (rng.choice(findings), rng.choice(existences), rng.choice(["left", None]))
                for _ in range(rng.randint(0, 4))
            ]
        )
        result = counts(matched(one, given))
        assert result == slow_counts(one.expected, list(given))
        results.add(result)
    assert len(results) > 15


@pytest.mark.parametrize(
    ("triplets", "given", "expected"),
    [
        ("edema present", [("edema", "present", None)], (1, 0, 0)),
        ("edema present", [("edema", "absent", None)], (0, 1, 1)),
        ("edema present", [("edema", "present", "left")], (0, 1, 1)),
        ("edema present left|none", [("edema", "present", "left")], (1, 0, 0)),
        ("edema uncertain|absent any", [("edema", "absent", "right")], (1, 0, 0)),
        ("opacity|mass present", [("mass", "present", None)], (1, 0, 0)),
        ("", [("edema", "present", None)], (0, 0, 1)),
        ("edema present; mass absent", [], (0, 2, 0)),
        # An optional triplet counts neither way.
        ("(tip present any)", [("tip", "present", "left")], (0, 0, 0)),
        ("(tip present any)", [], (0, 0, 0)),
        ("(tip present any)", [("tip", "absent", None)], (0, 0, 1)),
        # The wider triplet leaves the answer to the narrower one.
        (
            "edema present left|none; edema present none",
            [("edema", "present", None), ("edema", "present", "left")],
            (2, 0, 0),
        ),
        # Both sides may come one by one, but two statements do not come as one.
        ("edema present bilateral", [("edema", "present", "left"), ("edema", "present", "right")], (1, 0, 0)),
        ("edema present bilateral", [("edema", "present", "left"), ("edema", "absent", "right")], (0, 1, 2)),
        ("edema present left; edema present right", [("edema", "present", "bilateral")], (0, 2, 1)),
        ("edema present left; edema present right", [("edema", "present", s) for s in ("left", "right")], (2, 0, 0)),
        ("(tip present any)", [("tip", "present", "left"), ("tip", "present", "right")], (0, 0, 0)),
    ],
)
def test_answers_count(triplets, given, expected):
    assert counts(matched(sentence(triplets), answers(*given))) == expected


def test_figures_of_an_example():
    tally = Tally()
    for triplets, text in [
        ("pleural effusion present left mild; pneumothorax absent", "Small left effusion. No pneumothorax."),
        ("pleural effusion present right severe; cardiomegaly present", "Small right effusion.⏎Edema."),
        ("pneumothorax present right; edema absent", "No edema."),
        ("", "The patient is rotated."),
    ]:
        tally.add(compare(sentence(triplets, text)))
    # Hits: two, one (of the wrong severity), one, none. Missed: cardiomegaly, pneumothorax. Too many: edema.
    assert (tally.sentences, tally.hits, tally.misses, tally.excess) == (4, 4, 2, 1)
    assert (tally.precision, tally.recall, tally.f1) == (4 / 5, 4 / 6, 8 / 11)
    assert (tally.severity, len(tally.wrong)) == (1 / 2, 2)
    assert math.isnan(Tally().f1)


def test_notation():
    triplet = parse_triplet(" (pleural effusion present|absent left|none mild) ")
    assert (triplet.findings, triplet.existences) == ({"pleural effusion"}, {"present", "absent"})
    assert (triplet.sides, triplet.severity, triplet.optional) == ({"left", None}, "mild", True)
    assert parse_triplet("edema present").sides == {None}
    assert parse_triplet("edema present any").sides == {"left", "right", "bilateral", None}
    assert sentence("", "A⏎B⇥C") == Sentence("1", "k", "A\nB\tC", ())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"triplets": "edema"}, r"row 2 \(1\): 'edema' is no triplet"),
        ({"triplets": "present left"}, "'present left' is no triplet"),
        ({"triplets": "oedem present"}, "'oedem' is no finding"),
        ({"triplets": "edema present leftt"}, "'leftt' in .* is no side and no severity"),
        ({"triplets": "edema present mild severe"}, "'severe' in .* or a second one"),
        ({"triplets": "edema present left right"}, "has two sides"),
        ({"id": " "}, "row 2: id or text is empty"),
        ({"text": ""}, "row 2: id or text is empty"),
    ],
)
def test_wrong_rows(row, message):
    with pytest.raises(UserError, match=message):
        read_sentences([{"id": "1", "kind": "k", "text": "Edema.", "triplets": "edema present"} | row])


def table(tmp_path, text):
    path = tmp_path / "set.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_score_prints_kinds_and_errors(tmp_path, capsys):
    lines = ["a,line ends,No edema.⏎Nodule.,edema absent; mass present", "b,doubt,Possible edema.,edema uncertain"]
    score(sentences=table(tmp_path, "\n".join(["id,kind,text,triplets", *lines, "c,doubt,Edema?,"])))
    out = capsys.readouterr().out
    assert re.search(r"line ends +│ +1 │ +2 │ +0\.500 │ +0\.500 │ +0\.500", out)
    assert re.search(r"all +│ +3 │ +3 │ +0\.500 │ +0\.667 │ +0\.571", out)
    assert "  a: No edema. Nodule.\n    expected mass present, got nodule present" in out
    assert "  c: Edema?\n    expected no more triplet, got edema uncertain" in out
    score(sentences=tmp_path / "set.csv", errors=0)
    assert "expected" not in capsys.readouterr().out


def test_wrong_files_and_options(tmp_path):
    with pytest.raises(NotFoundError, match=r"sentences='.*none.csv' is not there"):
        score(sentences=tmp_path / "none.csv")
    with pytest.raises(UserError, match="has no column kind or triplets, it has id, text"):
        score(sentences=table(tmp_path, "id,text\n1,Edema.\n"))
    with pytest.raises(UserError, match="has no row"):
        score(sentences=table(tmp_path, "id,kind,text,triplets\n"))
    with pytest.raises(UserError, match="the id '1' is in two rows"):
        score(sentences=table(tmp_path, "id,kind,text,triplets\n1,k,Edema.,\n1,k,Mass.,\n"))
    with pytest.raises(UserError, match="leave --triplets and --labels out"):
        score(sentences=tmp_path / "set.csv", labels=tmp_path / "set.csv")
    with pytest.raises(UserError, match="are needed together, or --sentences alone"):
        score(labels=tmp_path / "set.csv")
