import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.parse import write_triplets
from medvlp.parse.agreement import Assertion, label_scores, side_scores
from medvlp.parse.labels import labels, summary
from medvlp.parse.score import match_columns, score

REPORTS = [
    ("1", {"findings": "Left effusion. No pneumothorax."}),
    ("2", {"findings": "No effusion.", "impression": "Possible nodule."}),
    ("3", {"findings": "Right effusion. Right apical nodule."}),
    ("4", {"findings": "The patient is rotated."}),
]


@pytest.fixture
def triplets(tmp_path):
    write_triplets(REPORTS, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def csv_file(tmp_path, text):
    path = tmp_path / "gold.csv"
    path.write_text(text)
    return path


def test_present_before_uncertain_before_absent():
    said = summary([("nodule", "absent"), ("nodule", "uncertain"), ("edema", "absent"), ("mass", "present")])
    assert said == {"nodule": "uncertain", "edema": "absent", "mass": "present"}
    assert labels(said, "chexpert")["Lung Lesion"] == "present"
    assert labels(said, "asg") == {"nodule": "uncertain", "edema": "absent", "mass": "present"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, True),
        ({"edema": "absent"}, True),
        ({"pacemaker": "present", "edema": "absent"}, True),
        ({"edema": "uncertain"}, False),
    ],
)
def test_no_finding(said, expected):
    assert ("No Finding" in labels(said, "chexpert")) == expected


def test_columns_are_matched():
    assert match_columns(["Pleural Thickening", "EFFUSION", "normal"]) == (
        "nih",
        {"Pleural Thickening": "Pleural_Thickening", "EFFUSION": "Effusion"},
        ["normal"],
    )
    assert match_columns(["Pleural Effusion", "No Finding"])[0] == "chexpert"


def said(finding, existence, side=None):
    return Assertion("A sentence.", finding, existence, side)


def test_figures():
    reports = {
        "1": [said("pleural effusion", "present")],
        "2": [said("pleural effusion", "uncertain")],
        "3": [said("pleural effusion", "present")],
        "4": [said("pleural effusion", "absent")],
    }
    values = {"1": "1.0", "2": "1", "3": "0", "4": "", "5": "1", "6": "-1"}
    table = [{"uid": uid, "Effusion": value} for uid, value in values.items()]
    (strict,) = label_scores(reports, table, "uid", "nih", {"Effusion": "Effusion"}, "absent")
    assert (strict.hits, strict.excess, strict.misses) == (["1"], ["3"], ["2", "5"])
    assert (strict.precision, strict.recall, strict.f1) == (1 / 2, 1 / 3, 2 / 5)
    assert strict.agreement == 1 / 3
    (lenient,) = label_scores(reports, table, "uid", "nih", {"Effusion": "Effusion"}, "present")
    assert (lenient.hits, lenient.misses) == (["1", "2"], ["5"])


def test_sides():
    reports = {
        "1": [said("pleural effusion", "present", "left"), said("pleural effusion", "present", "right")],
        "2": [said("pleural effusion", "present", "left"), said("pleural effusion", "absent", "right")],
        "3": [said("pleural effusion", "present")],
    }
    rows = [("1", "Effusion", "bilateral"), ("2", "Effusion", "right"), ("3", "Effusion", "left"), ("3", "Toe", "left")]
    sides = side_scores(reports, [{"uid": u, "finding": f, "side": s} for u, f, s in rows], "uid")
    assert (sum(sides.right.values()), sum(sides.compared.values())) == (1, 2)
    assert [(w.report, w.label, w.triplets) for w in sides.wrong] == [("2", "right", "left")]
    assert list(sides.unknown) == ["Toe"]


def test_score_prints_figures_and_sentences(tmp_path, triplets, capsys):
    gold = csv_file(tmp_path, "uid,Effusion,Nodule,normal\n1,1,0,0\n2,1,0,0\n3,0,1,0\n4,0,0,1\n")
    score(triplets, gold)
    out = capsys.readouterr().out
    assert "all (micro)" in out
    assert "not scored: normal" in out
    assert "2: No effusion. [pleural effusion absent]" in out
    assert "3: Right effusion. [pleural effusion present]" in out


def test_score_of_some_columns_and_sections(tmp_path, triplets, capsys):
    gold = csv_file(tmp_path, "uid,Effusion,Nodule\n1,1,0\n2,0,1\n")
    score(triplets, gold, columns="Nodule", sections="findings", uncertain="present", errors=0)
    out = capsys.readouterr().out
    assert "Effusion" not in out
    assert "0.000" in out


def test_score_prints_sides(tmp_path, triplets, capsys):
    score(triplets, csv_file(tmp_path, "uid,finding,side\n1,Pleural Effusion,right\n3,Nodule,right\n4,Toe,left\n"))
    out = capsys.readouterr().out
    assert "1 Pleural Effusion: right in the csv, left in the triplets" in out
    assert "not scored: Toe" in out


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("study,Effusion\n1,1\n", {}, "id='uid' is no column"),
        ("uid,toe\n1,1\n", {}, "no column of asg, chexpert, nih"),
        ("uid,Effusion\n1,1\n", {"columns": "Edema"}, "has no Edema"),
        ("uid,Effusion\n1,1\n", {"sections": "findings, nose"}, "has no nose, it has"),
        ("uid,Effusion\nx1,1\n", {}, "no report of .* has triplets"),
    ],
)
def test_wrong_labels(tmp_path, triplets, text, options, message):
    with pytest.raises(UserError, match=message):
        score(triplets, csv_file(tmp_path, text), **options)


def test_wrong_files(tmp_path, triplets):
    gold = csv_file(tmp_path, "uid,Effusion\n1,1\n")
    with pytest.raises(NotFoundError):
        score(tmp_path / "none.parquet", gold)
    with pytest.raises(NotFoundError):
        score(triplets, tmp_path / "none.csv")
    gold.write_bytes(b"PK\x03\x04 xl/workbook.xml")
    with pytest.raises(UserError, match="is a workbook"):
        score(triplets, gold)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_labels_in_other_tables(tmp_path, triplets, capsys, encoding, separator):
    gold = tmp_path / "gold.csv"
    rows = [["UID ", "Effusion", "note"], ["1", "1", "\u00e9"], ["2", "1", ""]]
    gold.write_bytes("".join(separator.join(row) + "\r\n" for row in rows).encode(encoding))
    score(triplets, gold, columns="Effusion", errors=0)
    assert "1.000" in capsys.readouterr().out
    with pytest.raises(UserError, match="no table of triplets"):
        score(gold, gold)
