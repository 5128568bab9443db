import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from medvlp.errors import NotFoundError, UserError
from medvlp.parse.command import COMMANDS, parse, show
from medvlp.parse.report import parse_report
from medvlp.parse.sections import all_sections
from medvlp.prepare.reports import read_report

HEADER = ["uid", "indication", "findings", "impression", "note"]
ROWS = [
    ["1", "Cough", "Small left effusion,\nno pneumothorax.", "", "x"],
    ["007", "", "", "Cardiomegaly.", "y"],
]


def csv_text():
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *ROWS])
    return text.getvalue()


def printed(text):
    console = Console(file=io.StringIO(), width=160)
    show(text, console)
    return console.file.getvalue()


def test_text_is_shown_with_its_sentences():
    out = printed("Small left effusion. No pneumothorax.")
    assert "pleural effusion" in out
    assert "left costophrenic angle" in out
    assert "No pneumothorax." in out


def test_headers_make_sections():
    out = printed(" INDICATION: Pneumonia.\n FINDINGS: Clear lungs.\n")
    assert "indication: Pneumonia." in out
    assert "uncertain" in out
    assert "findings: Clear lungs." in out


@pytest.mark.parametrize("text", ["", "The patient is [red] ([/] well."])
def test_text_without_findings(text):
    assert "No finding" in printed(text)


def test_marks_of_the_screen_are_words_like_others():
    assert "[red]effusion[/]" in printed("An [red]effusion[/] is seen.")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_tables(tmp_path, kind):
    source, out = tmp_path / f"reports.{kind}", tmp_path / "t.parquet"
    if kind == "parquet":
        columns = list(zip(*ROWS, strict=True))
        pq.write_table(pa.table({name: list(column) for name, column in zip(HEADER, columns, strict=True)}), source)
    elif kind == "csv":
        source.write_text(csv_text())
    else:
        source.write_bytes(gzip.compress(csv_text().encode()))
    parse(input=source, out=out)
    rows = pq.read_table(out).to_pylist()
    assert {(r["id"], r["section"], r["finding"], r["existence"]) for r in rows} == {
        ("1", "findings", "pleural effusion", "present"),
        ("1", "findings", "pneumothorax", "absent"),
        ("007", "impression", "cardiomegaly", "present"),
    }


def test_radgraph(tmp_path):
    entities = {
        "1": {"tokens": "effusion", "label": "OBS-DP", "start_ix": 1, "end_ix": 1, "relations": []},
        "2": {"tokens": "left", "label": "ANAT-DP", "start_ix": 0, "end_ix": 0, "relations": []},
    }
    entities["1"]["relations"] = [["located_at", "2"]]
    source = tmp_path / "graphs.json"
    source.write_text(json.dumps({"p10/p1/s5.txt": {"text": "Left effusion .", "entities": entities}}))
    parse(radgraph=source, out=tmp_path / "t.parquet")
    (row,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert (row["id"], row["finding"], row["region"]) == ("5", "pleural effusion", "left costophrenic angle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of --text, --input and --radgraph"),
        ({"text": "x", "input": "a.csv"}, "given: --text and --input"),
        ({"text": "x", "out": "a.parquet"}, "the triplets of --text are printed"),
        ({"input": "reports.csv"}, "needs --out"),
        ({"input": "none.csv", "out": "t"}, "none.csv' is not there"),
        ({"input": "reports.csv", "out": "t", "id": "study"}, "no column study, it has uid, indication"),
        ({"input": "reports.csv", "out": "t", "sections": "finding,impression"}, "no column finding, it has"),
        ({"input": "reports.csv", "out": "t", "workers": 0}, "workers=0"),
        ({"input": "broken.parquet", "out": "t"}, "no readable parquet table"),
        ({"input": "empty.csv", "out": "t"}, "empty.csv' is empty: the first line of a table names its columns"),
        ({"input": "ragged.csv", "out": "t"}, "none of its 2 rows can be read, the first at ragged.csv:2"),
        ({"input": "columns.csv", "out": "t"}, "has the column 'findings' 2 times: 'findings' (2), 'findings' (3)"),
        ({"input": "book.xlsx", "out": "t"}, "book.xlsx' is a workbook: save its sheet as 'CSV UTF-8"),
        ({"input": "book.csv", "out": "t"}, "book.csv' is a workbook"),
        ({"input": "page.csv", "out": "t"}, "is a web page, not a table"),
        ({"input": "list.json", "out": "t"}, "list.json' has no column findings or impression, it has uid"),
        ({"input": "twice.csv", "out": "t"}, "uid must name each report once; not so 1 names, such as '1'"),
        ({"input": "unnamed.csv", "out": "t"}, "uid must name each report once; not so 1 names, such as ''"),
        ({"input": "lists.parquet", "out": "t"}, "holds no text"),
        ({"input": "reports.csv", "out": "none/t"}, "there is no folder"),
        ({"input": "reports.csv", "out": "."}, "it is a folder"),
        ({"radgraph": "none.json", "out": "t"}, "none.json' is not there"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    (tmp_path / "reports.csv").write_text(csv_text())
    (tmp_path / "broken.parquet").write_text("no parquet")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("uid,findings,impression\n1,a,b,c\n2,a\n")
    (tmp_path / "columns.csv").write_text("uid,findings,findings,impression\n1,a,b,c\n")
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04 [Content_Types].xml")
    (tmp_path / "book.csv").write_bytes(b"\xd0\xcf\x11\xe0 an old one")
    (tmp_path / "page.csv").write_text("<!DOCTYPE html><html></html>")
    (tmp_path / "list.json").write_text('[{"uid": 1}]')
    (tmp_path / "twice.csv").write_text("uid,findings,impression\n1,a,b\n2,a,b\n1,a,c\n")
    (tmp_path / "unnamed.csv").write_text("uid,findings,impression\n1,a,b\n,a,b\n")
    pq.write_table(pa.table({"uid": ["1"], "findings": [["a"]], "impression": ["b"]}), tmp_path / "lists.parquet")
    paths = {"input", "radgraph", "out"}
    with pytest.raises(UserError) as error:
        parse(**{name: tmp_path / value if name in paths else value for name, value in options.items()})
    assert message in str(error.value)
    assert str(error.value).count("='") <= 1
    assert "\n" not in str(error.value)
    assert not (tmp_path / "t").exists()


def test_no_reports(tmp_path):
    (tmp_path / "reports.csv").write_text("uid,findings,impression\n")
    parse(input=tmp_path / "reports.csv", out=tmp_path / "t", sections="findings, impression")
    assert pq.read_table(tmp_path / "t").num_rows == 0


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        parse(input=tmp_path / "none.csv", out=tmp_path / "t")


def test_commands():
    assert set(COMMANDS) == {"score", "negation"}


def test_the_images_of_a_study_share_its_report(tmp_path):
    rows = [{"study_id": name, "findings": "No effusion.", "impression": None} for name in ("a", "a", "b")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "index.parquet")
    parse(input=tmp_path / "index.parquet", id="study_id", out=tmp_path / "t.parquet", workers=1)
    table = pq.read_table(tmp_path / "t.parquet")
    assert table["id"].to_pylist() == ["a", "a", "b", "b"]  # either costophrenic angle


REPORT = """INDICATION: Pneumonia.
COMPARISON: Large right effusion.
Technique: PA, for edema.
FINDINGS:
LUNGS: Clear.
PLEURA: Small left effusion.
IMPRESSION: No acute process."""


def triplets(path):
    return {(r["section"], r["finding"], r["existence"]) for r in pq.read_table(path).to_pylist()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_whole_reports_in_one_column_are_read_as_text_is(tmp_path, kind):
    row = {"id": "007", "report": REPORT}
    source = tmp_path / f"reports.{kind}"
    if kind == "csv":
        with open(source, "w", newline="") as file:
            csv.writer(file).writerows([row, row.values()])
    elif kind == "jsonl":
        source.write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), source)
    parse(input=source, id="id", sections="report", out=tmp_path / "t")
    expected = {(t.section, t.finding, t.existence) for t in parse_report(all_sections(REPORT))}
    assert triplets(tmp_path / "t") == expected
    assert {("indication", "pneumonia", "uncertain"), ("comparison", "pleural effusion", "uncertain")} <= expected
    assert {("technique", "edema", "uncertain"), ("findings", "pleural effusion", "present")} <= expected
    assert ("impression", "acute disease", "absent") in expected
    assert pq.read_table(tmp_path / "t")["id"].to_pylist()[0] == "007"


def test_prepare_and_parse_find_the_same_sections(tmp_path):
    report = read_report({"": REPORT})
    sections = all_sections(REPORT)
    assert (report.findings, report.impression) == (sections["findings"], sections["impression"])
    columns = read_report({"findings": REPORT, "impression": ""})
    assert (columns.findings, columns.impression) == (report.findings, report.impression)


def test_columns_are_joined_by_section(tmp_path):
    (tmp_path / "r.csv").write_text('uid,findings,impression\n1,"Effusion. IMPRESSION: Edema.",Pneumonia.\n')
    parse(input=tmp_path / "r.csv", out=tmp_path / "t")
    assert triplets(tmp_path / "t") == {
        ("findings", "pleural effusion", "present"),
        ("impression", "edema", "present"),
        ("impression", "pneumonia", "present"),
    }


def test_columns_that_ask(tmp_path):
    (tmp_path / "r.csv").write_text("uid;Clinical_History ;Findings\n1;Pneumonia.;Effusion.\n")
    parse(input=tmp_path / "r.csv", sections="clinical history, findings", out=tmp_path / "t")
    assert triplets(tmp_path / "t") == {
        ("clinical history", "pneumonia", "uncertain"),
        ("findings", "pleural effusion", "present"),
    }


def test_rows_that_cannot_be_read_are_counted(tmp_path, capsys):
    (tmp_path / "r.csv").write_text("uid,findings,impression\n1,Effusion,Edema\n2,Effusion, small,Edema\n3,x\n")
    parse(input=tmp_path / "r.csv", out=tmp_path / "t")
    assert {r["id"] for r in pq.read_table(tmp_path / "t").to_pylist()} == {"1"}
    assert "2 rows are left out, the first at r.csv:3: unreadable row: 4 fields, not 3" in capsys.readouterr().err
