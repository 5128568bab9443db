"""Rows by the names of their columns, from every format."""

import gzip
import json

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.errors import UserError
from medvlp.tables import column_names, read_all, read_records

ROWS = [{"uid": "007", "text": "Clear; no “PTX”", "n": 1}, {"uid": "8", "text": None, "n": 2}]
EXPECTED = [{"uid": "007", "text": "Clear; no “PTX”", "n": "1"}, {"uid": "8", "text": "", "n": "2"}]


def write(folder, form):
    path = folder / f"t.{form}"
    if form.startswith(("csv", "tsv")):
        separator = "\t" if form.startswith("tsv") else ";"
        lines = [separator.join(ROWS[0])]
        lines += [separator.join(f'"{"" if value is None else value}"' for value in row.values()) for row in ROWS]
        data = "\n".join(lines).encode("utf-16" if form == "csv" else "utf-8")
    elif form.startswith("jsonl"):
        data = "\n".join(map(json.dumps, ROWS)).encode()
    elif form.startswith("json"):
        data = json.dumps(ROWS, indent=1).encode()
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    else:
        book = openpyxl.Workbook()
        book.active.append([])
        for row in ([*ROWS[0]], *([*row.values()] for row in ROWS), [None, " "]):
            book.active.append(row)
        book.create_sheet("more")
        book.save(path)
        return path
    path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "tsv.gz", "jsonl", "jsonl.gz", "json", "json.gz", "parquet", "xlsx"])
def test_formats(form, tmp_path):
    skips, notes = [], []
    path = write(tmp_path, form)
    rows = [row for _, row in read_records(path, lambda *skip: skips.append(skip), notes.append)]
    assert rows == EXPECTED
    assert not skips
    assert column_names(path) == ["uid", "text", "n"]
    assert read_all(path, ["n", "uid"]) == [("1", "007"), ("2", "8")]
    assert ("t.xlsx: the sheet 'Sheet' is read; not read: more." in notes) == (form == "xlsx")
    assert ("t.csv is read as UTF-16." in notes) == (form == "csv")


def test_objects_lists_and_bytes(tmp_path):
    rows = [
        {
            "a": {"b": {"c": 1}, "d": b"x"},
            "boxes": [{"x": 1.5}],
            "ok": True,
            "none": None,
            "nan": float("nan"),
            "id": 7.0,
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    notes = []
    ((place, row),) = read_records(tmp_path / "t.parquet", lambda *_: None, notes.append)
    assert row == {"a.b.c": "1", "boxes": '[{"x": 1.5}]', "ok": "true", "none": "", "nan": "", "id": "7"}
    assert place == "t.parquet:1"
    assert notes == ["t.parquet: not read, for they hold bytes: a.d."]


def test_rows_that_are_no_objects(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n[1]\nnull\n{"a": 2\n{"a": 3}\n')
    (tmp_path / "t.json").write_text('[{"a": 1}, 2, {"b": 3}]')
    for name, expected, places in (("t.jsonl", ["1", "3"], [2, 3, 4]), ("t.json", ["1", ""], [2])):
        skips = []
        rows = [*read_records(tmp_path / name, lambda *skip, skips=skips: skips.append(skip), lambda _: None)]
        assert [row.get("a", "") for _, row in rows] == expected
        assert skips == [(f"{name}:{place}", "unreadable row: no JSON object") for place in places]


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Rows come one by one: the first is there before the damaged end is read."""
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 100_000)[:-20])
    rows = read_records(path, lambda *_: None, lambda _: None)
    assert next(rows)[1] == {"a": "1"}
    with pytest.raises(UserError, match="cannot be read to its end"):
        list(rows)


@pytest.mark.parametrize(
    ("cells", "message"),
    [([["a", "A ", "a"], [1, 2, 3]], "has the column 'a' 2 times"), ([], "")],
)
def test_headers_of_workbooks(cells, message, tmp_path):
    book = openpyxl.Workbook()
    for row in cells:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    rows = read_records(tmp_path / "t.xlsx", lambda *_: None, lambda _: None)
    if message:
        with pytest.raises(UserError, match=message):
            list(rows)
    else:
        assert [*rows] == []


def test_a_title_above_the_names(tmp_path):
    book = openpyxl.Workbook()
    for row in (["Export 2024"], [], ["image", "n"], ["a.png", 1.0], [None, None], ["b.png", 2.5]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    notes = []
    rows = [*read_records(tmp_path / "t.xlsx", lambda *_: None, notes.append)]
    assert rows == [("t.xlsx:4", {"image": "a.png", "n": "1"}), ("t.xlsx:6", {"image": "b.png", "n": "2.5"})]
    assert notes == ["t.xlsx: the names of the columns are taken from row 3, below a title."]


def test_the_fullest_sheet_is_read(tmp_path):
    """Before the table a sheet explains it, behind it a hidden one has lists for its cells; of equal ones the first."""
    book = openpyxl.Workbook()
    for row in (["contact", "Dr. Who"], ["made", "2024"]):
        book.active.append(row)
    for name in ("hidden", "data", "copy"):
        sheet = book.create_sheet(name)
        for number in range(9 if name == "hidden" else 3):
            sheet.append([f"{name}{number}", number])
    book["hidden"].sheet_state = "hidden"
    book.save(tmp_path / "t.xlsx")
    notes = []
    rows = [row for _, row in read_records(tmp_path / "t.xlsx", lambda *_: None, notes.append)]
    assert rows == [{"data0": "data1", "0": "1"}, {"data0": "data2", "0": "2"}]
    assert notes == ["t.xlsx: the sheet 'data' is read; not read: Sheet, hidden, copy."]


def test_a_title_above_a_csv_file(tmp_path):
    """A spreadsheet writes the empty cells beside it; a column without a name is no title."""
    path = tmp_path / "t.csv"
    path.write_text("Export 2024;;\n;;\nimage;n;text\na.png;1;Clear.\n")
    assert column_names(path) == ["image", "n", "text"]
    rows = [*read_records(path, lambda *_: None, lambda _: None)]
    assert rows == [("t.csv:4", {"image": "a.png", "n": "1", "text": "Clear."})]
    assert read_all(path, ["text", "image"]) == [("Clear.", "a.png")]
    path.write_text("image;;\n")
    assert column_names(path) == ["image", "", ""]


def test_numbers_with_zeros_in_front_and_columns_without_a_name(tmp_path):
    """A merged name of two columns stands in the first alone; a patient is 007 as the sheet shows it."""
    book = openpyxl.Workbook()
    for row in (["patient", "labels", None], [7, 1, 0], ["008", None, 1.0]):
        book.active.append(row)
    book.active["A2"].number_format = "000"
    book.active.merge_cells("B1:C1")
    book.save(tmp_path / "t.xlsx")
    notes = []
    rows = [row for _, row in read_records(tmp_path / "t.xlsx", lambda *_: None, notes.append)]
    assert rows == [{"patient": "007", "labels": "1"}, {"patient": "008", "labels": ""}]
    assert notes[0].startswith("t.xlsx: not read, for they have no name in row 1: columns C.")
    (tmp_path / "t.csv").write_text(",a,\n0,1,2\n")
    assert [row for _, row in read_records(tmp_path / "t.csv", lambda *_: None, notes.append)] == [{"a": "1"}]
    assert notes[1:] == ["t.csv: not read, for they have no name: columns 1, 3."]


def test_damaged_files(tmp_path):
    for form in ("xlsx", "parquet"):
        path = write(tmp_path, form)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(UserError, match=rf"t\.{form}'"):
            list(read_records(path, lambda *_: None, lambda _: None))


def test_without_openpyxl(tmp_path, monkeypatch):
    path = write(tmp_path, "xlsx")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match="pip install openpyxl") as error:
        list(read_records(path, lambda *_: None, lambda _: None))
    assert "the extra 'tables'" in str(error.value)
