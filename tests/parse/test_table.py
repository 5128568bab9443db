import pyarrow.parquet as pq
import pytest

from medvlp.errors import UserError
from medvlp.parse import parse_report, table, write_triplets

REPORTS = [
    ("a", {"findings": "Left effusion. No pneumothorax.", "impression": "Small left effusion."}),
    ("b", {"findings": "Surgical clips."}),
    ("c", {"findings": ""}),
]


def test_one_row_a_triplet_and_region(tmp_path):
    assert write_triplets(REPORTS, tmp_path / "t.parquet", total=3) == 3
    written = pq.read_table(tmp_path / "t.parquet")
    assert written.schema.equals(table.SCHEMA)
    rows = written.to_pylist()
    assert [(r["id"], r["section"], r["finding"], r["region"]) for r in rows] == [
        ("a", "findings", "pleural effusion", "left costophrenic angle"),
        ("a", "findings", "pneumothorax", "right apical zone"),
        ("a", "findings", "pneumothorax", "left apical zone"),
        ("a", "impression", "pleural effusion", "left costophrenic angle"),
        ("b", "findings", "surgical clips", None),
    ]
    assert (rows[3]["side"], rows[3]["severity"], rows[3]["existence"]) == ("left", "mild", "present")
    assert REPORTS[0][1]["impression"][rows[3]["start"] : rows[3]["end"]] == "effusion"
    assert list(tmp_path.iterdir()) == [tmp_path / "t.parquet"]


@pytest.mark.slow
def test_processes_write_the_same_as_one(tmp_path, monkeypatch):
    reports = [(str(i), {"findings": f"Nodule of {i} mm in the right apex."}) for i in range(600)]
    write_triplets(reports, tmp_path / "one.parquet")
    monkeypatch.setattr(table, "FEW", 10)
    assert write_triplets(iter(reports), tmp_path / "two.parquet", workers=2) == 600
    assert pq.read_table(tmp_path / "two.parquet").equals(pq.read_table(tmp_path / "one.parquet"))


def test_no_file_is_left_when_it_goes_wrong(tmp_path):
    def broken():
        yield REPORTS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_triplets(broken(), tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_old_table_stays_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "t.parquet"
    write_triplets(REPORTS[:1], out)
    before = out.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_triplets((1 / 0 for _ in range(1)), out)
    assert out.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_triplets(REPORTS, tmp_path / "none" / "t.parquet")


def test_rows_of_nothing():
    assert table.rows([]).num_rows == 0
    assert table.rows(("x", t) for t in parse_report({})).num_rows == 0
