"""MIMIC-CXR-JPG 2.1.0 with its radiologists' labels, and MIMIC-CXR's own tree of DICOM files."""

import csv
import shutil

import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepare.splits import hash_split
from medvlp.prepared import Prepared
from tests.support.raw import read_lines, write_lines

EXPERTS = "mimic-cxr-2.1.0-test-set-labeled.csv"
RECORDS = "cxr-record-list.csv.gz"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("mimic") / "phantom"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="mimic_cxr,mimic_cxr_dicom")
    return out


@pytest.fixture(scope="module")
def jpg(made, tmp_path_factory):
    """MIMIC-CXR-JPG with CheXpert's labels."""
    return run(made / "mimic-cxr-jpg/2.0.0", made / "mimic-cxr-reports", tmp_path_factory.mktemp("jpg") / "out")


@pytest.fixture
def images(made, tmp_path):
    return shutil.copytree(made / "mimic-cxr-jpg/2.0.0", tmp_path / "jpg")


@pytest.fixture
def tree(made, tmp_path):
    return shutil.copytree(made / "mimic-cxr/2.1.0", tmp_path / "tree")


def run(images, reports, out, **options):
    mimic_cxr(images, reports, out, **{"regions": "none", "size": 32, "workers": 1, **options})
    return Prepared.open(out)


def read_experts(images):
    with open(images / EXPERTS, newline="") as file:
        return {row["study_id"]: row for row in csv.DictReader(file)}


def test_radiologists_label_their_studies(made, images, jpg, tmp_path):
    prepared = run(images, made / "mimic-cxr-reports", tmp_path / "out", labels="radiologists")
    experts, rows, before = read_experts(images), prepared.index.to_pylist(), jpg.index.to_pylist()
    assert len(experts) > 1
    assert prepared.labels == jpg.labels
    changed = 0
    for row, old in zip(rows, before, strict=True):
        expert = experts.get(row["study_id"])
        for name in prepared.labels:
            value = old[f"label/{name}"]
            if expert:
                text = expert.get("Airspace Opacity" if name == "Lung Opacity" else name, "")
                value = int(float(text)) if text else None
            assert row[f"label/{name}"] == value
            changed += value != old[f"label/{name}"]
        assert row["split"] == old["split"]
        elsewhere = "" if row["split"] == "test" else row["split"]
        assert row["split/radiologists"] == ("test" if expert else elsewhere)
    assert changed > 0
    assert [*prepared.split_variants] == ["official", "radiologists"]
    assert prepared.manifest["options"]["labels"] == "radiologists"
    data = CXRDataModule(prepared.root, batch_size=4, crop=28, num_workers=0, split="radiologists")
    data.setup("test")
    assert next(iter(data.test_dataloader()))["label"].shape[1] == len(prepared.labels)


def test_patients_of_labelled_studies_are_in_no_other_split(made, images, tmp_path):
    """Also if one is a patient of the official training split."""
    subject, study = next(
        (row["subject_id"], row["study_id"])
        for row in run(images, made / "mimic-cxr-reports", tmp_path / "a", labels="none").index.to_pylist()
        if row["split"] == "train"
    )
    header, *_ = read_lines(images / EXPERTS)
    write_lines(images / EXPERTS, [header, study + "," * header.count(",")])
    prepared = run(images, made / "mimic-cxr-reports", tmp_path / "out", labels="radiologists")
    for row in prepared.index.to_pylist():
        if row["subject_id"] == subject:
            assert row["split/radiologists"] == ("test" if row["study_id"] == study else "")


def test_damaged_rows_of_radiologists(made, images, jpg, tmp_path, skipped):
    header, first, *lines = read_lines(images / EXPERTS)
    count = header.count(",")
    more = [first, "x" + "," * count, f"77{',' * count}", "1,2", f"78,maybe{',' * (count - 1)}"]
    write_lines(images / EXPERTS, [header, first, *lines, *more])
    prepared = run(images, made / "mimic-cxr-reports", tmp_path / "out", labels="radiologists")
    assert len(prepared.index) == len(jpg.index)
    place = len(lines) + 3
    found = dict(set(skipped(tmp_path / "out")) - set(skipped(jpg.root)))
    assert found == {
        f"{EXPERTS}:{place}": "duplicate id",
        f"{EXPERTS}:{place + 1}": "unreadable row: a label or study_id",
        "s77": "labelled by radiologists, but not in the table of images",
        f"{EXPERTS}:{place + 3}": f"unreadable row: 2 fields, not {count + 1}",
        f"{EXPERTS}:{place + 4}": "unreadable row: a label or study_id",
    }


def test_a_missing_or_wrong_table_of_radiologists(made, images, tmp_path):
    def prepare():
        run(images, made / "mimic-cxr-reports", tmp_path / "out", labels="radiologists")

    lines = read_lines(images / EXPERTS)
    write_lines(images / EXPERTS, ["study_id,Something", *(line.split(",")[0] + ",1" for line in lines[1:])])
    with pytest.raises(UserError, match=rf"{EXPERTS}' has no column of the labels Atelectasis"):
        prepare()
    (images / EXPERTS).unlink()
    with pytest.raises(NotFoundError, match=r"mimic-cxr-2\.1\.0-test-set-labeled\.csv.*2\.1\.0 from https://physionet"):
        prepare()


def test_dicom_tree_alone(tree, jpg, tmp_path, skipped):
    """The headers tell the views, and patients are split by hash."""
    prepared = run(tree, tree, tmp_path / "out", labels="none")
    rows, others = prepared.index.to_pylist(), {row["image_id"]: row for row in jpg.index.to_pylist()}
    assert {row["image_id"] for row in rows} == others.keys()
    for row in rows:
        other = others[row["image_id"]]
        assert [row[key] for key in ("view", "findings", "impression", "study_id", "subject_id")] == [
            other[key] for key in ("view", "findings", "impression", "study_id", "subject_id")
        ]
        assert row["path"] == other["path"].replace(".jpg", ".dcm")
        assert row["split"] == hash_split(row["subject_id"])
    assert [*prepared.split_variants] == ["hash"]
    counts = prepared.manifest["counts"]
    reason = "view LATERAL: told by ViewPosition of the DICOM header"
    assert counts["table"] == counts["decoded"] + len(skipped(tmp_path / "out"))
    lateral = [what for what, why in skipped(tmp_path / "out") if why == reason]
    assert lateral
    assert prepared.manifest["options"]["views_told_by"] == "ViewPosition of the DICOM header"
    assert prepared.synthetic


def test_dicom_tree_with_tables(made, tree, jpg, tmp_path):
    """With the tables of MIMIC-CXR-JPG all is as there, but for the files."""
    for path in (made / "mimic-cxr-jpg/2.0.0").glob("*.csv.gz"):
        shutil.copy(path, tree)
    prepared = run(tree, made / "mimic-cxr-reports", tmp_path / "out")
    same = [name for name in jpg.index.column_names if name not in ("path", "flags")]
    assert prepared.index.select(same).equals(jpg.index.select(same))
    assert [*prepared.split_variants] == ["official", "5x200"]
    (tree / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    told = run(tree, made / "mimic-cxr-reports", tmp_path / "told")
    assert told.index.select(["image_id", "view", "split"]).equals(jpg.index.select(["image_id", "view", "split"]))
    assert [*told.split_variants] == ["official"]


def test_damaged_dicom_tree(tree, tmp_path, skipped, jpeg):
    lines = read_lines(tree / RECORDS)
    first, second, third, *rest = (line.split(",") for line in lines[1:])
    (tree / first[3]).unlink()
    (tree / second[3]).write_bytes((tree / second[3]).read_bytes()[:700])
    # No DICOM file has no header.
    (tree / third[3]).write_bytes(jpeg())
    more = [lines[1], "x,1,y,z", "12345678,5,../../z,files/z.dcm", "1,2"]
    write_lines(tree / RECORDS, [*lines, *more])
    prepared = run(tree, tree, tmp_path / "out", labels="none", views="PA,AP,LATERAL")
    found = dict(skipped(tmp_path / "out"))
    assert found[first[2]] == "missing file"
    assert found[second[2]].startswith(("truncated image", "unreadable image"))
    assert found[third[2]] == "view not given: told by ViewPosition of the DICOM header"
    place = len(lines) + 1
    assert found[f"{RECORDS}:{place}"] == "duplicate id"
    assert found[f"{RECORDS}:{place + 1}"] == "unreadable row: subject_id, study_id or dicom_id"
    assert found["../../z"] == "escapes root"
    assert found[f"{RECORDS}:{place + 3}"] == "unreadable row: 2 fields, not 4"
    left = {row[2] for row in rest} - found.keys()
    assert set(prepared.index["image_id"].to_pylist()) == left


def test_a_list_of_records_beside_jpeg_files_changes_nothing(made, images, jpg, tmp_path):
    shutil.copy(made / "mimic-cxr/2.1.0" / RECORDS, images)
    assert run(images, made / "mimic-cxr-reports", tmp_path / "out").index.equals(jpg.index)


def test_a_tree_without_its_list(tree, tmp_path):
    (tree / RECORDS).unlink()
    with pytest.raises(NotFoundError, match=r"neither mimic-cxr-2\.0\.0-metadata\.csv .*with its DICOM files"):
        run(tree, tree, tmp_path / "out", labels="none")
