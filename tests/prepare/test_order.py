"""The order of a patient's studies in time is in the index, where a data set says it."""

import csv

import pyarrow.parquet as pq
import pytest

from medvlp.data import PreparedDataset
from medvlp.data.transforms import EvaluationTransform
from medvlp.phantom import phantom
from medvlp.prepare.order import moment, number_at_end
from medvlp.prepared import INDEX, Prepared
from tests.support.raw import make_raw, read_lines
from tests.support.tiny import make_prepared


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("21800506", "213014.531", 21800506213014),
        ("21800506", "90000", 21800506090000),
        ("21800506", "", 21800506000000),
        (" 21800506 ", "noon", 21800506000000),
        ("", "213014", None),
        ("2180-05-06", "213014", 21800506213014),
        ("2180-0506", "213014", None),
    ],
)
def test_moments_grow_with_time(date, time, expected):
    assert moment(date, time) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("patient00001/study12", 12), ("00000013_004", 4), ("study", None), ("", None)]
)
def test_numbers_of_studies(name, expected):
    assert number_at_end(name) == expected


def test_a_folder_without_the_column_opens(tmp_path):
    older = make_prepared(tmp_path / "older")
    pq.write_table(pq.read_table(older / INDEX).drop_columns(["order"]), older / INDEX)
    assert "order" not in Prepared.open(older).index.column_names
    assert len(PreparedDataset(older, ["train"], EvaluationTransform(32))) == 24


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mimic_cxr", "chexpert", "chexpert_plus", "nih", "rexgradient", "padchest"])
def test_the_studies_of_a_patient_are_in_order(name, tmp_path):
    phantom(tmp_path / "phantom", studies=40, seed=1, size=64, workers=1, layouts=name)
    raw = make_raw(name, tmp_path / "phantom", tmp_path / "raw")
    index = raw.prepare(tmp_path / "out").index.to_pylist()
    studies = {(row["subject_id"], row["study_id"]): row["order"] for row in index}
    assert None not in studies.values()
    assert len({(subject, order) for (subject, _), order in studies.items()}) == len(studies)
    assert len({subject for subject, _ in studies}) < len(studies)
    if name == "mimic_cxr":
        (table,) = raw.folder.rglob("*metadata*")
        dated = csv.DictReader(read_lines(table))
        moments = {row["study_id"]: row["StudyDate"] + row["StudyTime"].partition(".")[0] for row in dated}
        assert {study: order for (_, study), order in studies.items()} == {
            study: int(moments[study]) for _, study in studies
        }
