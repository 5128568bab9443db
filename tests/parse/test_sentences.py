import pytest

from medvlp.parse.sentences import split


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Lungs are clear. No effusion.", ["Lungs are clear.", "No effusion."]),
        ("1. Edema. 2. Small nodule.", ["Edema.", "Small nodule."]),
        ("1) Edema\n2) Nodule", ["Edema", "Nodule"]),
        ("- Edema\n- Nodule", ["Edema", "Nodule"]),
        ("A nodule of 1.5 cm is seen. Stable.", ["A nodule of 1.5 cm is seen.", "Stable."]),
        ("Discussed with Dr. Who at 5 p.m. today.", ["Discussed with Dr. Who at 5 p.m.", "today."]),
        ("Atelectasis vs. scar.", ["Atelectasis vs. scar."]),
        ("Lungs are clear.There is no edema.", ["Lungs are clear.", "There is no edema."]),
        ("Wrapped\n line. Next\nline", ["Wrapped\n line.", "Next\nline"]),
        ("No full stop\n\nnext paragraph", ["No full stop", "next paragraph"]),
        ("XXXX XXXX. ___ is clear..", ["XXXX XXXX.", "___ is clear.."]),
        ("Pneumonia? Edema!", ["Pneumonia?", "Edema!"]),
        (" . 1. ", []),
        ("", []),
    ],
)
def test_split(text, sentences):
    assert [text[start:end] for start, end in split(text)] == sentences
