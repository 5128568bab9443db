import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.parse import parse_report
from medvlp.parse.sentences import ENUMERATION, split
from medvlp.parse.signs import BULLET, plain_signs


def sentences(text):
    return [text[start:end] for start, end in split(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lungs are clear. No effusion.", ["Lungs are clear.", "No effusion."]),
        ("1. Edema. 2. Small nodule.", ["Edema.", "Small nodule."]),
        ("1) Edema\n2) Nodule", ["Edema", "Nodule"]),
        ("- Edema\n- Nodule", ["Edema", "Nodule"]),
        ("A nodule of 1.5 cm is seen. Stable.", ["A nodule of 1.5 cm is seen.", "Stable."]),
        ("Discussed with Dr. Who at 5 p.m. today.", ["Discussed with Dr. Who at 5 p.m. today."]),
        ("Atelectasis vs. scar.", ["Atelectasis vs. scar."]),
        ("Lungs are clear.There is no edema.", ["Lungs are clear.", "There is no edema."]),
        ("No full stop\n\nnext paragraph", ["No full stop", "next paragraph"]),
        ("XXXX XXXX. ___ is clear..", ["XXXX XXXX.", "___ is clear.."]),
        ("Pneumonia? Edema!", ["Pneumonia?", "Edema!"]),
        ("The tube is in segment 2. Small nodule.", ["The tube is in segment 2.", "Small nodule."]),
        ("Seen 5/12. 1.5 cm nodule.", ["Seen 5/12.", "1.5 cm nodule."]),
        (" . 1. ", []),
        ("", []),
    ],
)
def test_split(text, expected):
    assert sentences(text) == expected


ITEMS = ["No pneumothorax", "Small left effusion", "Cardiomegaly"]


@pytest.mark.parametrize(
    "text",
    [
        "{}\n{}\n{}",
        "{}\r\n{}\r\n{}",
        "{}\r{}\r{}",
        "{}\u2028{}\u2028{}",
        "{}\\n{}\\n{}",
        "{}\\.br\\{}\\.br\\{}",
        "{}  \n   {} \n {}",
        "-{}\n-{}\n-{}",
        " - {}\n - {}\n - {}",
        "*{}\n*{}\n*{}",
        ">{}\n>{}\n>{}",
        "+ {}\n+ {}\n+ {}",
        "\u2022{}\n\u2022{}\n\u2022{}",
        "\u2022 {} \u2022 {} \u2022 {}",
        "\u25aa{} \u25aa{} \u25aa{}",
        "\u00b7 {} \u00b7 {} \u00b7 {}",
        "\uf0b7{}\n\uf0b7{}\n\uf0b7{}",
        "* {} * {} * {}",
        "*{} *{} *{}",
        "1.{} 2.{} 3.{}",
        "1. {} 2. {} 3. {}",
        "1){} 2){} 3){}",
        "(1) {} (2) {} (3) {}",
        "a) {} b) {} c) {}",
        "(a) {}, (b) {}, (c) {}",
        "1.{}\n2.{}\n3.{}",
        "i) {}\nii) {}\niii) {}",
        "IMPRESSION: 1. {} 2. {} 3. {}",
        "{}<br>{}<br>{}",
        "{} <BR/> {} <br /> {}",
        "<p>{}</p><p>{}</p><p>{}</p>",
        "<ul><li>{}</li><li>{}</li><li>{}</li></ul>",
        "<div class='a'>{}</div><div>{}</div><div>{}</div>",
        "{}&lt;br&gt;{}&lt;br/&gt;{}",
        "{}. {}. {}.",
        "{}.{}.{}.",
        "{}... {}... {}",
    ],
)
@pytest.mark.parametrize("change", [str, str.lower, str.upper], ids=["title", "lower", "upper"])
def test_items_are_sentences(text, change):
    if change is not str and (text.startswith("{}.{}") or "\\" in text):
        return  # A glued full stop needs a capital behind it, and the escapes of HL7 their own letters.
    items = [change(item) for item in ITEMS]
    assert [s.rstrip(",.") for s in sentences(text.format(*items)) if "impression" not in s.lower()] == items


@pytest.mark.parametrize(
    "sign",
    [
        *(" - ", " -", "- ", " -- ", "--", " \u2013 ", "\u2013 ", " \u2014 ", "\u2014", " | ", "|", " || ", "; ", ";"),
        *(
            " -> ",
            "->",
            " => ",
            " \u2192 ",
            "\u2192",
            " // ",
            "//",
            " ~ ",
            "\u2026",
            "...",
            " >> ",
            " *** ",
            " \u2503 ",
        ),
        *(" [", " + ", " & ", " &amp; "),
        *("&nbsp;- ", "&mdash;", " &rarr; "),
    ],
)
@pytest.mark.parametrize("second", ["small left effusion", "Small left effusion persists."])
def test_signs_end_a_denial(sign, second):
    """The clauses stay in one sentence: an interpretation behind a dash has the place before it."""
    found = parse_report({"findings": f"No pneumothorax{sign}{second}"})
    assert [(t.finding, t.existence, t.side, t.severity) for t in found] == [
        ("pneumothorax", "absent", None, None),
        ("pleural effusion", "present", "left", "mild"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pneumothorax - none. Effusion - small left.", "pneumothorax absent, pleural effusion present"),
        ("Pneumothorax | none | Effusion | small", "pneumothorax absent, pleural effusion present"),
        ("Pneumothorax\tNone\nEffusion\tSmall", "pneumothorax absent, pleural effusion present"),
        ("Pneumothorax\t\tNo\nEffusion\t\tYes", "pneumothorax absent, pleural effusion present"),
        ("Pneumothorax: no\nEffusion: small", "pneumothorax absent, pleural effusion present"),
        ("No pneumothorax\tSmall effusion", "pneumothorax absent, pleural effusion present"),
        ("No pneumothorax    Small effusion", "pneumothorax absent, pleural effusion present"),
        ("> No pneumothorax > Small effusion", "pneumothorax absent, pleural effusion present"),
        ("No effusion \u2013 lungs clear.", "pleural effusion absent, consolidation absent, opacity absent"),
        ("No 5 - 6 mm nodule.", "nodule absent"),
        ("No 5\u20136 mm nodule.", "nodule absent"),
        ("No T8 - T10 fracture.", "fracture absent"),
        ("No right - sided effusion.", "pleural effusion absent"),
        ("No right\u2013sided effusion.", "pleural effusion absent"),
        ("No mild- to moderate edema.", "edema absent"),
        ("No follow- up of the nodule or effusion.", "nodule absent, pleural effusion absent"),
        ("COPD - no change.", "chronic obstructive disease present"),
        ("Post-op changes - no pneumothorax.", "surgery present, pneumothorax absent"),
        ("5/6/2020 - no pneumothorax - small effusion.", "pneumothorax absent, pleural effusion present"),
        ("No nodule &lt; 6 mm or effusion.", "nodule absent, pleural effusion absent"),
        ("No edema&nbsp;or&nbsp;effusion.", "edema absent, pleural effusion absent"),
        ("No edema &amp; no effusion.", "edema absent, pleural effusion absent"),
        ("No <b>edema</b> or effusion.", "edema absent, pleural effusion absent"),
        ("It doesn&#39;t show edema.", "edema absent"),
        ("No\u00a0edema or\u200beffusion.", "edema absent, pleural effusion absent"),
        ("No pneumothorax / Small effusion.", "pneumothorax absent, pleural effusion present"),
        ("No pneumothorax / effusion.", "pneumothorax absent, pleural effusion absent"),
        ("No Effusion / Pneumothorax.", "pleural effusion absent, pneumothorax absent"),
        ("Effusion - resolved. Edema - improved.", "pleural effusion absent, edema present"),
        ("A. No pneumothorax B. Small effusion", "pneumothorax absent, pleural effusion present"),
        ("1- No pneumothorax 2- Small effusion", "pneumothorax absent, pleural effusion present"),
        ("No *pneumothorax*.", "pneumothorax absent"),
        ("No lt. pleural effusion.", "pleural effusion absent"),
        ("No mod. or lg. effusion.", "pleural effusion absent"),
    ],
)
def test_existences(text, expected):
    assert ", ".join(f"{t.finding} {t.existence}" for t in parse_report({"findings": text})) == expected


PROSE = [
    "As compared to the previous radiograph, there is no evidence of pneumothorax, pleural effusion or consolidation.",
    "The tip of the NG tube is in the stomach, and that of the PICC line is in the SVC or the upper RA.",
    "No ET tube, NG tube, PICC line, CT evidence of pneumothorax, Swan-Ganz catheter or Dobbhoff tube is seen.",
    "Discussed by Dr. ___ with Dr. ___ on the telephone at 5 p.m.",
]


@pytest.mark.parametrize("width", range(62, 90))
def test_wrapped_lines_join(width):
    text = "\n".join(f" {line}" for line in textwrap.wrap("  ".join(PROSE), width, break_on_hyphens=False))
    assert [" ".join(s.split()) for s in sentences(text)] == PROSE


@pytest.mark.parametrize(
    "text",
    [
        "No evidence of\npneumothorax",
        "There is no\nPneumothorax",
        "Small left pleural\neffusion",
        "The lungs are\nclear",
        "No effusion,\npneumothorax",
        "No effusion\nor pneumothorax",
        "The heart\nis enlarged",
        "Opacity\nin the left base",
        "Moderate\ncardiomegaly",
        "Wet-to-\ndry",
        "Swan-\nGanz catheter",
        "LINES:\nPICC",
        "SMALL LEFT PLEURAL\nEFFUSION",
        "Nodule of 5 mm.\nin the lung",
        # A name is gone from the first line, or a header from before it.
        "The patient of Dr. ___ was seen by Dr. ___ for chest\npain",
        "frontal and lateral views were obtained there\nwith mild edema in the right lung and a left nodule",
    ],
)
def test_lines_join(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Lungs clear\nNo effusion\nNG tube in stomach\nRight PICC in SVC",
        "Lungs are clear without focal consolidation\nNG tube in stomach",
        "No focal consolidation is seen in either lung on this frontal radiograph today\nSmall left effusion\nPICC",
        "heart normal\nlungs clear\nno effusion\nold rib fractures",
        "No effusion\nThe heart is enlarged\nPICC in place",
        "Tubes: none\nRight PICC",
        "Effusion on the right\nNo pneumothorax",
        "no effusion\n3 mm nodule\nPICC",
        "effusion is small\nno pneumothorax",
        "No evidence of pneumothorax or pleural effusion on the radiograph of today\nno edema",
    ],
)
def test_lines_end(text):
    assert sentences(text) == text.split("\n")


@pytest.mark.parametrize(
    "text",
    [
        "Lt. pleural effusion and Rt. basal atelectasis.",
        "Mod. cardiomegaly.",
        "Bilat. effusions.",
        "Approx. 3 cm. mass in the left upper lobe.",
        "Nodule of 5 mm. in diameter.",
        "L. base opacity and R. effusion.",
        "Tube no. 8 is seen.",
        "Poss. pneumonia, sl. increased.",
        "Pulm. edema.",
        "Drain at 3 p.m. yesterday.",
        "Post. segment, e.g. an abscess, i.e. pus.",
        "Sm. effusion.",
    ],
)
def test_abbreviations_end_no_sentence(text):
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Effusion on the lt. No pneumothorax.",
        "Nodule 5 mm. no effusion.",
        "Nodule of 1.5 cm. The heart is large.",
        "Effusion: No. Edema: mild.",
        "Effusion on the rt. Small nodule.",
        "Seen at 5 p.m. No pneumothorax.",
    ],
)
def test_abbreviations_end_a_sentence_before_another(text):
    assert len(sentences(text)) == 2


def test_plain_signs_keep_the_length():
    for text in ("a&lt;b&nbsp;c<br>d \u2013 e\tF -> g", "\ufb01 \u0130 &#39; &amp;lt; &eacute; <p>"):
        assert len(plain_signs(text)) == len(text)


PIECES = [
    "No effusion",
    "small",
    "NG tube",
    "\n",
    "\n\n",
    " - ",
    "-",
    "\u2022",
    "*",
    "1.",
    "2)",
    "(a)",
    "b)",
    "<br>",
    "&lt;",
]
PIECES += [
    "&nbsp;",
    "\t",
    " | ",
    "->",
    "...",
    "?",
    "Lt.",
    "5 mm.",
    "no.",
    " ",
    "\r\n",
    "\u2014",
    "&#39;",
    "\\.br\\",
    ":",
    "~",
    ">",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
@settings(max_examples=400, deadline=None)
def test_sentences_cover_all_letters(text):
    """Spans lie in the text in their order; what is outside of them is blanks, signs and marks of lists."""
    spans = split(text)
    plain = plain_signs(text)
    assert len(plain) == len(text)
    outside, last = [], 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        outside.append(plain[last:start])
        last = end
    outside.append(plain[last:])
    for gap in outside:
        rest = ENUMERATION.sub("", gap)
        assert not re.search(
            r"[^\W\d_]", re.sub(rf"[\s{BULLET}|]*\(?(?:\d{{1,2}}|[a-h]|[ivx]{{1,4}})[.):]", "", rest)
        ), gap
