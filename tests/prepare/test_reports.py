import re

from hypothesis import given
from hypothesis import strategies as st

from medvlp.prepare.reports import has_words


def count_words(findings, impression):
    """The rule of MGCA, literally."""
    text = f"{impression} {findings}".replace("\n", " ")
    sentences = [part for piece in re.compile(r"[0-9]+\.").split(text) for part in piece.split(".")]
    total = 0
    for sentence in sentences:
        if not sentence:
            continue
        cleaned = sentence.replace("\ufffd", " ")
        tokens = [token.encode("ascii", "ignore").decode() for token in re.findall(r"\w+", cleaned.lower())]
        tokens = [token for token in tokens if token]
        if len(tokens) > 1:
            total += len(tokens)
    return total


texts = st.one_of(st.text(), st.text("ab \n.1_\u00e9\ufffd\u0130"))


@given(texts, texts, st.integers(0, 8))
def test_word_rule_against_its_words(findings, impression, minimum):
    assert has_words(findings, impression, minimum) == (count_words(findings, impression) >= minimum)


def test_missing_section_has_no_words():
    assert has_words(None, "No acute process.", 3)
    assert not has_words(None, "Normal. Normal. Normal.", 1)
    assert not has_words("One two.", None, 3)
