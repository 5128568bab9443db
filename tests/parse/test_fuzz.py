import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.parse import FINDINGS, REGIONS, clauses, parse_report
from medvlp.parse.cues import find_cues
from medvlp.parse.words import words

pytestmark = pytest.mark.slow

WORDS = (
    "no not without and or but , . ; : ( ) / - ? effusion effusions pneumothorax nodule consolidation heart size lungs "
    "mediastinum normal clear enlarged is are may represent versus left right bilateral base bases lower lobe apex "
    "small large mild in of the with costophrenic angle blunting elevated hemidiaphragm resolved removed ___ XXXX 1. "
    "1.5 cm tube tip carina previously seen stable cannot be excluded \n \n\n "
    "- -- | -> <br> &lt; &nbsp; &#39;t \t \u2013 \u2022 * Lt. mm. No Small NG kein effusoin "
    "R L > < if any more likely than favored over may not the one has now previously moderate hyperinflated it whereas "
    "unchanged w/o lack further longer on"
)
texts = st.one_of(
    st.text(), st.lists(st.sampled_from(WORDS.split(" ")), max_size=60).map(" ".join), st.text("a.\n 1-_;'")
)


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_any_text(findings, impression):
    sections = {"findings": findings, "impression": impression}
    triplets = parse_report(sections)
    for t in triplets:
        text = sections[t.section]
        assert 0 <= t.start < t.end <= len(text)
        assert t.text in text
        assert text[t.start : t.end] in t.text
        assert t.text == t.text.strip()
        assert t.finding in FINDINGS
        assert set(t.regions) <= set(REGIONS)
        assert len(set(t.regions)) == len(t.regions)
        assert t.existence in ("present", "absent", "uncertain")
        assert t.side in (None, "left", "right", "bilateral")
        assert t.severity in (None, "mild", "moderate", "severe")
        # A phrase may end in a hole: sternal ___.
        assert all(text[i].isalnum() or text[i] == "_" for i in (t.start, t.end - 1))
    assert parse_report(sections) == triplets


@given(texts)
@settings(max_examples=300, deadline=None)
def test_clauses_and_separators_cover_a_sentence(text):
    sentence = words(text)
    cues = find_cues(sentence, [])
    separators = {cue.first: cue.last for cue in cues}
    place = 0
    for clause in clauses.split(cues, len(sentence)):
        if clause.first > place:  # a separator stands before the clause
            assert separators[place] == clause.first
        assert place <= clause.first <= clause.last <= len(sentence)
        assert all(clause.first <= cue.first <= cue.last <= clause.last for cue in clause.cues)
        place = clause.last
    assert place == len(sentence)


@given(texts)
@settings(max_examples=100, deadline=None)
def test_what_is_asked_is_never_present(text):
    assert all(t.existence != "present" for t in parse_report({"indication": text}))


LONG = {
    "one word": "effusion ",
    "denied": "no effusion or ",
    "organs": "heart, lungs, ",
    "organs and qualities": "heart and normal ",
    "long lists of both": "normal, " * 12 + "heart, lungs and hila " * 5 + "clear and normal " * 20,
    "sides": "right upper and left lower lobe and small right and moderate left ",
    "places": "right base of the left lung ",
    "grades": "small large effusion and ",
    "doubt": "may represent effusion versus ",
    "stops": "...",
    "holes": "_",
    "letters": "a",
    "breaks": "\n ",
    "numbers": "1,",
    "enumeration": "1. ",
    "dashes": " - ",
    "blanks": " ",
    "tags": "<br>",
    "entities": "isn&#39;t ",
    "abbreviations": "no lt. ",
    "short lines": "small effusion\n",
    "numbered items": "1. a 2. b ",
    "other languages": "kein ",
    "one side": "the right is moderate, the left is small, effusion ",
    "sides in pairs": "no left and small right effusion ",
    "exceptions": "effusion left, but not the right, ",
    "sides alone": "left right ",
    "letters for sides": "R L effusion R > L ",
    "asides": "small, if any, previously large, ",
    "comparisons": "more likely effusion than ",
    "predicates": "lungs hyperinflated, heart normal ",
    "predicates far away": "lungs mildly ",
    "pronouns": "effusion; it is not seen ",
    "places far away": "effusion, on the on the right ",
    "cues before colons": "no longer seen: ",
    "conjunctions": "and ",
    "other scripts": "\u00e9\U0001f600 ",
}


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG.keys())
def test_linear_time(piece):
    def seconds(length):
        text = piece * (length // len(piece))
        start = time.process_time()
        parse_report({"findings": text})
        return time.process_time() - start

    # Quadratic time would take 64 times as long, and minutes on a megabyte. A busy machine gets three attempts.
    assert any(seconds(400_000) < 40 * seconds(50_000) + 0.5 for _ in range(3))


def test_linear_time_behind_a_long_list():
    start = time.process_time()
    parse_report({"findings": "heart and " * 20_000 + "normal " * 20_000 + "right left " * 10_000})
    assert time.process_time() - start < 20
