import gzip

import pytest

from medvlp.errors import UserError
from medvlp.prepare.tables import column_names, decode, find_table, read_table


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
