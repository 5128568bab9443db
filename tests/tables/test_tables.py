import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.errors import UserError
from medvlp.prepare.tables import find_table
from medvlp.tables import column_names, decode, find_column, read_all, read_lines, read_table

ROWS = [["007", "Small effusion, left; no \u201cPTX\u201d.\nStable | same", "x"], ["1e5", "\u00e9t\u00e9", ""]]


def text_of(rows, separator):
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    return text.getvalue()


def read(path, columns):
    skipped = []
    return [fields for _, fields in read_table(path, columns, lambda *row: skipped.append(row))], skipped


def test_columns_by_name(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa, b,c\r\n1,2,3\r\n\r\n4,5,6\r\n"))
    assert column_names(path) == ["a", "b", "c"]
    assert read(path, ["c", "a"]) == ([("3", "1"), ("6", "4")], [])


def test_broken_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\n1,2\n1\n1,2,3\n"x\ny",2\n3,4\n"open,5\n6,7\n')
    rows, skipped = read(path, ["a", "b"])
    assert rows == [("1", "2"), ("x\ny", "2"), ("3", "4")]
    assert skipped == [
        ("t.csv:3", "unreadable row: 1 fields, not 2"),
        ("t.csv:4", "unreadable row: 3 fields, not 2"),
        ("t.csv:8-9", "unreadable row: 1 fields, not 2"),
    ]


def test_field_of_a_megabyte(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1," + b"x" * 2_000_000 + b"\n3,4\n")
    rows, skipped = read(path, ["a"])
    assert ("3",) in rows
    assert len(rows) + len(skipped) == 2


def test_empty_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(UserError, match="no column 'a'; its columns are none"):
        read(tmp_path / "t.csv", ["a"])


def test_not_gzip(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(b"a,b\n")
    with pytest.raises(UserError, match=r"t\.csv\.gz' cannot be read"):
        read(tmp_path / "t.csv.gz", ["a"])


def test_bytes_that_are_not_utf8(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\ncaf\xe9,caf\xc3\xa9\n")
    assert read(path, ["a", "b"]) == ([("caf\u00e9", "caf\u00e9")], [])


def test_decode():
    assert decode("\u00b0".encode()) == ("\u00b0", True)
    assert decode(b"\xb0 \x92s \x81") == ("\u00b0 \u2019s \ufffd", False)


def test_find_table(tmp_path):
    assert find_table(tmp_path, "t") is None
    (tmp_path / "t.csv.gz").touch()
    assert find_table(tmp_path, "t") == tmp_path / "t.csv.gz"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_encodings(tmp_path, separator, encoding, suffix):
    path = tmp_path / f"t.{suffix}"
    data = text_of([["uid", " Findings", "note"], *ROWS], separator).encode(encoding)
    path.write_bytes(gzip.compress(data) if suffix == "csv.gz" else data)
    notes, skipped = [], []
    rows = [f for _, f in read_table(path, ["findings", "uid"], lambda *row: skipped.append(row), notes.append)]
    assert rows == [(text, uid) for uid, text, _ in ROWS]
    assert not skipped
    assert column_names(path, ["uid"]) == ["uid", "Findings", "note"]
    assert (f"t.{suffix}: the separator is ;." in notes) == (separator == ";")
    assert any("Windows-1252" in note for note in notes) == (encoding == "cp1252")
    assert any("is read as UTF" in note for note in notes) == (encoding[:6] in ("utf-16", "utf-32"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines(tmp_path, end):
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(["a,b", '1,"x y"', "2,z", ""]).encode())
    assert read_all(path, ["a", "b"]) == [("1", "x y"), ("2", "z")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("sep=;\nuid;text\n1;a,b\n", [("1", "a,b")]),
        ("\n\nuid,text\n1,a\n", [("1", "a")]),
        ('uid, text\n1, "a, b"\n', [("1", "a, b")]),
        ('uid,text\n="007",a\n"=""008""",b\n', [("007", "a"), ("008", "b")]),
        ("uid,text,\n1,a,\n", [("1", "a")]),
        ("uid,text\n1,a,,\n", [("1", "a")]),
        ("uid,text\n1,a\n,\n , \n", [("1", "a")]),
        ("UID,Text\n1,a\n", [("1", "a")]),
        ("Uid,uid,text\n1,2,a\n", [("2", "a")]),
        ("uid,text\n", []),
        ("uid,text", []),
        ("uid;text;a,b;c\n1;x;y;z\n", [("1", "x")]),
        ("uid\ttext\n1\t a; b, c\n", [("1", "a; b, c")]),
    ],
)
def test_ways_of_writing(tmp_path, text, rows):
    (tmp_path / "t.csv").write_text(text)
    assert read_all(tmp_path / "t.csv", ["uid", "text"]) == rows


def test_names_with_blanks_for_underscores(tmp_path):
    (tmp_path / "t.csv").write_text("Study ID,Text\n1,a\n")
    assert read_all(tmp_path / "t.csv", ["study_id"]) == [("1",)]


def test_nul_characters_are_counted(tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes(b"uid,text\n1,a\0b\n2,c\0\0\n")
    assert read_all(tmp_path / "t.csv", ["uid", "text"]) == [("1", "ab"), ("2", "c")]
    assert "t.csv: 3 NUL characters are left out." in capsys.readouterr().err


def test_a_column_that_is_there_twice(tmp_path):
    (tmp_path / "t.csv").write_text("uid,Text,text \n1,a,b\n")
    assert read_all(tmp_path / "t.csv", ["uid", "text"]) == [("1", "b")]
    with pytest.raises(UserError, match=r"'TEXT' 2 times: 'Text' \(2\), 'text' \(3\)\. Rename all but one"):
        read_all(tmp_path / "t.csv", ["TEXT"])
    assert find_column(tmp_path / "t.csv", ["a"], "b") is None


def test_rows_of_json(tmp_path):
    rows = [{"uid": "007", "text": "a"}, {"text": None, "uid": 8}, [1], {"uid": "9", "text": ["b"]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    rows, skipped = read(tmp_path / "t.jsonl", ["UID", "text"])
    assert rows == [("007", "a"), ("8", "")]
    assert [place for place, _ in skipped] == ["t.jsonl:3", "t.jsonl:4", "t.jsonl:5"]
    assert column_names(tmp_path / "t.jsonl") == ["uid", "text"]


def test_rows_of_parquet(tmp_path):
    pq.write_table(pa.table({"uid": [7, 8], "text": ["a", None]}), tmp_path / "t.parquet")
    assert read_all(tmp_path / "t.parquet", ["text", "uid"]) == [("a", "7"), ("", "8")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "t.xlsx",
            b"PK\x03\x04[Content_Types].xml",
            "is a workbook: save its sheet as 'CSV UTF-8 (Comma delimited)' and give that file",
        ),
        ("t.csv", b"PK\x03\x04...xl/workbook.xml", "is a workbook"),
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "is a workbook"),
        ("t.ods", b"PK\x03\x04mimetype", "is a workbook"),
        ("t.csv.zip", b"PK\x03\x04t.csv", "is packed: unpack it"),
        ("t.csv.bz2", b"BZh91AY", "is packed: unpack it"),
        ("t.csv", b"%PDF-1.7", "is a PDF"),
        ("t.xls", b"\r\n<html><table>", "is a web page"),
        ("t.csv", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("t.json", b'[\n{"uid": 1},', "no readable JSON list"),
        ("t.csv", b"", "its columns are none: the file is empty"),
        ("t.csv", b"\xef\xbb\xbf", "its columns are none: the file is empty"),
        ("t.parquet", b"PAR1", "no readable parquet table"),
        ("t.csv.gz", b"uid,text\n", "cannot be read"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        read_all(tmp_path / name, ["uid"])
    assert message in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_lists(tmp_path):
    (tmp_path / "t.txt").write_bytes("a b\r\n\r\n c \r\n".encode("utf-16"))
    assert list(read_lines(tmp_path / "t.txt")) == [("t.txt:1", "a b"), ("t.txt:3", "c")]


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"t\.csv' cannot be read \(No such file"):
        read_all(tmp_path / "t.csv", ["a"])


def test_a_quote_that_is_not_closed(tmp_path):
    (tmp_path / "t.csv").write_text('uid,text\n1,a\n2,"b\n3,c\n4,d\n')
    rows, skipped = read(tmp_path / "t.csv", ["uid", "text"])
    assert rows == [("1", "a")]
    assert skipped == [("t.csv:3-5", "unreadable row: a quote is not closed")]


@pytest.mark.parametrize("last", ["2,b", "2,b\n", '2,"b"', '2,"b\nc"\n'])
def test_the_last_row(tmp_path, last):
    (tmp_path / "t.csv").write_text(f"uid,text\n1,a\n{last}")
    assert [uid for uid, _ in read_all(tmp_path / "t.csv", ["uid", "text"])] == ["1", "2"]


def test_a_table_without_rows_says_so(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("uid,text\n")
    assert read_all(tmp_path / "t.csv", ["uid"]) == []
    assert "t.csv has no rows." in capsys.readouterr().err
