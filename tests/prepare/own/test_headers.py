"""Folders of DICOM files: what headers say, without a table and with one, and how reading them is resumed."""

import pytest
from PIL import Image

from medvlp.errors import UserError
from medvlp.prepare.own import headers
from medvlp.prepare.own.columns import Wanted
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.gather import Sources, _patient, gather
from medvlp.prepare.own.headers import Header, read_header, read_headers
from tests.support.strangers import dicom, picture, write_csv

REPORT = "FINDINGS: The heart is normal in size. IMPRESSION: No effusion."


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pacs"
    known = {"PatientID": "p1", "StudyInstanceUID": "1.2.3", "AccessionNumber": "A007", "StudyDate": "20200131"}
    dicom(root / "1.2.3.4", 1, ViewPosition="PA", BodyPartExamined="CHEST", **known)
    dicom(root / "x" / "IM2.dcm", 2, ViewPosition="", SeriesDescription="Chest LAT", **known)
    dicom(
        root / "x" / "IM3.dcm", 3, PatientID="p2", StudyInstanceUID="1.2.9", AccessionNumber="12", StudyDate="20210203"
    )
    dicom(root / "x" / "IM4", 4, BodyPartExamined="KNEE", PatientID="p2")
    dicom(root / "x" / "IM5", 5, Modality="CT", PatientID="p2")
    dicom(root / "x" / "SR", 6, image=False, PatientID="p1")
    (root / "x" / "IM7.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    (root / "DICOMDIR").write_bytes(b"\0" * 200)
    Image.fromarray(picture(8)).save(root / "x" / "photo.png")
    return root


def read(images, table=None, **columns):
    data = OwnData(gather(Sources(images, table, wanted=Wanted(columns))), None, None)
    skips = []
    found = [*data.studies(lambda *skip: skips.append(skip))]
    return data, {p.path: (s, p) for s in found for p in s.pictures}, dict(skips)


def test_a_folder_alone(folder):
    data, found, skips = read(folder)
    assert {path: (s.subject_id, s.study_id, p.view) for path, (s, p) in found.items()} == {
        "1.2.3.4": ("p1", "1.2.3", "PA"),
        "x/IM2.dcm": ("p1", "1.2.3", "LATERAL"),
        "x/IM3.dcm": ("p2", "1.2.9", None),
        "x/photo.png": ("x/photo.png", "x/photo.png", None),
    }
    assert skips.pop("x/IM7.dcm").startswith(("unreadable", "no image"))
    assert skips == {
        "x/IM4": "another part of the body: KNEE",
        "x/IM5": "no radiograph: modality CT",
        "x/SR": "no image: a DICOM file of Basic Text SR Storage",
    }
    assert data.rows == len(found) + len(skips) + 1
    assert data.labels == []


def test_headers_that_options_leave_out(folder):
    _, found, _ = read(folder, patient="none", view="none")
    assert {s.subject_id for s, _ in found.values()} == {"1.2.3", "1.2.9", "x/photo.png"}
    assert {p.view for _, p in found.values()} == {None}


@pytest.mark.parametrize("zeros", ["A007", " a007 "])
def test_reports_by_accession_number(folder, tmp_path, zeros):
    rows = [{"Accession No": number, "report": REPORT, "Edema": 1} for number in (zeros, "0012.0", "99", zeros, "")]
    data, found, skips = read(folder, write_csv(tmp_path / "t.csv", rows))
    assert found["1.2.3.4"][0].report().impression == "No effusion."
    assert found["1.2.3.4"][0].subject_id == "p1"
    assert found["x/IM3.dcm"][0].labels == [1]
    assert found["x/photo.png"][0].labels == [None]
    assert skips["t.csv:4"] == "no image: accession number 99 is in no header"
    assert skips["t.csv:5"] == "duplicate id"
    assert skips["t.csv:6"] == "unreadable row: no accession number"
    assert data.rows == len(found) + len(skips)


def test_reports_by_study_or_by_patient_and_date(folder, tmp_path):
    by_study = write_csv(tmp_path / "s.csv", [{"StudyInstanceUID": "1.2.9", "text": REPORT}])
    assert read(folder, by_study)[1]["x/IM3.dcm"][0].report().impression == "No effusion."
    by_date = write_csv(tmp_path / "d.csv", [{"patient": "p2", "date": "3.2.2021", "text": REPORT}])
    assert read(folder, by_date)[1]["x/IM3.dcm"][0].report().impression == "No effusion."
    # The third of February or the second of March: the report of another study would be the worst.
    table = [{"patient": "p2", "date": "03/02/2021", "text": REPORT}]
    with pytest.raises(UserError, match="has no column that names images"):
        read(folder, write_csv(tmp_path / "d.csv", table))
    table.append({"patient": "p1", "date": "31/01/2020", "text": REPORT})
    assert read(folder, write_csv(tmp_path / "d.csv", table))[1]["x/IM3.dcm"][0].report().impression == "No effusion."
    with pytest.raises(UserError, match="has no column that names images"):
        read(folder, write_csv(tmp_path / "n.csv", [{"patient": "p9", "text": REPORT}]))


def test_images_by_uid_and_headers_beside_a_table(folder, tmp_path):
    rows = [{"SOPInstanceUID": f"1.2.826.0.1.{n}", "report": REPORT} for n in (1, 2, 3, 77)]
    data, found, skips = read(folder, write_csv(tmp_path / "t.csv", rows))
    assert {path: (s.subject_id, p.view) for path, (s, p) in found.items()} == {
        "1.2.3.4": ("p1", "PA"),
        "x/IM2.dcm": ("p1", "LATERAL"),
        "x/IM3.dcm": ("p2", None),
    }
    assert skips == {"1.2.826.0.1.77": "missing file"}
    assert data.rows == 4


def test_folders_that_are_called_like_patients(tmp_path):
    for name in ("patient1/a.png", "patient1/b.png", "patient22/s1/c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(1)).save(tmp_path / "in" / name)
    data, found, _ = read(tmp_path / "in")
    assert sorted(s.subject_id for s, _ in found.values()) == ["patient1", "patient1", "patient22"]
    assert any("called like patients, such as patient1" in note for note in data.gathered.notes)
    # With a table, too, so that no patient is in two splits.
    rows = [{"path": path} for path in ("patient1/a.png", "patient1/b.png", "patient22/s1/c.png")]
    _, found, _ = read(tmp_path / "in", write_csv(tmp_path / "t.csv", rows))
    assert sorted(s.subject_id for s, _ in found.values()) == ["patient1", "patient1", "patient22"]
    _, found, _ = read(tmp_path / "in", tmp_path / "t.csv", patient="none")
    assert len({s.subject_id for s, _ in found.values()}) == 3
    (tmp_path / "in" / "normal").mkdir()
    Image.fromarray(picture(1)).save(tmp_path / "in" / "normal" / "d.png")
    _, found, _ = read(tmp_path / "in")
    assert len({s.subject_id for s, _ in found.values()}) == 4


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("p10/p10000032/s50414267/a.jpg", "p10000032"),
        ("00012345/1/a.jpg", "00012345"),
        ("train/patient00001/study1/view1.jpg", "patient00001"),
        ("2020/a.jpg", ""),
        ("20200131/a.jpg", ""),
        ("images_001/a.jpg", ""),
        ("17/a.jpg", ""),
        ("p1.jpg", ""),
    ],
)
def test_the_folder_of_a_patient(path, patient):
    assert _patient(path) == patient


def test_reading_is_resumed(folder, tmp_path, monkeypatch):
    store = tmp_path / "work" / "headers.jsonl"
    paths = ["1.2.3.4", "x/IM2.dcm", "x/IM3.dcm"]
    first = read_headers(folder, paths[:2], 1, store)
    store.write_bytes(store.read_bytes()[:-9])
    dicom(folder / "1.2.3.4", 1, PatientID="changed and longer")
    asked = []
    monkeypatch.setattr(headers, "read_header", lambda path: asked.append(path) or read_header(path))
    again = read_headers(folder, paths, 1, store)
    # One was changed, the line of the second was torn, the third is new.
    assert len(asked) == 3
    assert again["1.2.3.4"].patient == "changed and longer"
    assert again["x/IM2.dcm"] == first["x/IM2.dcm"]
    assert read_headers(folder, paths, 1, store) == again
    assert len(asked) == 3


def test_files_without_a_header(tmp_path):
    (tmp_path / "empty").touch()
    assert read_header(str(tmp_path / "empty")) == Header()
    assert read_header(str(tmp_path / "none")).fault.startswith("unreadable file: ")
