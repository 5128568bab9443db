import re

import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.cues import Mention
from medvlp.parse.negation import locate, negation

HEADER = "Report No.\tConcept\tSentence\tNegation\n"


@pytest.fixture
def sentences(tmp_path):
    def write(*rows):
        path = tmp_path / "sentences.tsv"
        path.write_bytes((HEADER + "".join("\t".join(row) + "\n" for row in rows)).encode("latin-1"))
        return path

    return write


def test_the_occurrence_in_capitals_is_meant():
    assert locate("pain", "No pain today, but PAIN yesterday.") == Mention(5, 6)
    assert locate("chest  pain", "No chest Pain.") == Mention(1, 3)
    assert locate("pain", "Painful.") is None
    assert locate("", "Pain.") is None


def test_figures_and_errors(sentences, capsys):
    negation(
        sentences(
            ("1", "fever", "No FEVER.", "Negated"),
            ("1", "chills", "No fever or CHILLS.", "Affirmed"),
            ("2", "cough", "COUGH.", "Negated"),
            ("2", "caf\xe9-au-lait spots", "CAF\xc9-AU-LAIT SPOTS.", "Affirmed"),
            ("3", "pain. No rash", "PAIN.", "Affirmed"),
        )
    )
    out = capsys.readouterr().out
    assert re.search(r"wrongly negated +report 1, 'chills': No fever or CHILLS", out)
    assert re.search(r"missed +report 2, 'cough': COUGH", out)
    assert re.search(r"not found +report 3, 'pain. No rash': PAIN", out)
    assert "4 concepts, 2 negated; 1 not found" in out
    assert "precision 0.500, recall 0.500, F1 0.500" in out


def test_wrong_files(tmp_path, sentences):
    with pytest.raises(NotFoundError, match=r"--sentences .*none.tsv"):
        negation(tmp_path / "none.tsv")
    with pytest.raises(UserError, match="no concept is found"):
        negation(sentences(("1", "x", "y", "Negated")))
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("Concept\tSentence\n")
    with pytest.raises(UserError, match=r"no column Report No\., Negation"):
        negation(wrong)


def test_negex(shared_data, capsys):
    negation(shared_data / "negex" / "sentences.tsv")
    precision, recall = map(float, re.findall(r"(?:precision|recall) ([\d.]+)", capsys.readouterr().out))
    assert precision >= 0.95
    assert recall >= 0.96
