import gzip
import hashlib
import shutil
from collections import Counter

import pytest

from medvlp.errors import UserError
from medvlp.phantom.layouts.chexpert import LABELS as RAW
from medvlp.prepare.datasets.chexpert import CheXpert, chexpert
from medvlp.prepare.five_by_200 import CLASSES, candidates
from medvlp.prepare.layouts.chexpert_table import LABELS, read_rows
from medvlp.prepare.tables import read_table
from medvlp.prepared import Prepared

HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *RAW]


def row(path, view="Frontal", **labels):
    labels = {name.replace("_", " "): value for name, value in labels.items()}
    return [f"CheXpert-v1.0-small/{path}", "Male", "60", view, "AP", *(labels.get(name, "") for name in RAW)]


def read(data):
    skips = []
    return list(data.studies(lambda what, reason: skips.append((what, reason)))), skips


@pytest.fixture
def tables():
    """Six images of three patients to train on, two of one to test on."""
    train = [
        row("train/patient00001/study1/view1_frontal.jpg", No_Finding="1.0", Pleural_Effusion="0.0"),
        row("train/patient00002/study2/view1_frontal.jpg", Cardiomegaly="-1.0", Edema="1.0"),
        row("train/patient00002/study1/view1_frontal.jpg", Edema="1.0", Fracture="0.0", No_Finding="1.0"),
        row("train/patient00002/study1/view2_lateral.jpg", "Lateral", Edema="1.0"),
        row("train/patient00003/study1/view1_frontal.jpg"),
        row("train/patient00003/study1/view2_frontal.jpg"),
    ]
    test = [
        row("valid/patient64541/study1/view1_frontal.jpg", **dict.fromkeys(RAW, "0.0")),
        row("valid/patient64541/study1/view2_lateral.jpg", "Lateral", **dict.fromkeys(RAW, "1.0")),
    ]
    return {"train": train, "valid": test}


@pytest.fixture
def raw(tmp_path, tables, jpeg, write_csv):
    root = tmp_path / "raw/CheXpert-v1.0-small"
    for number, (path, *_) in enumerate(tables["train"] + tables["valid"]):
        image = root.parent / path
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(jpeg(seed=number))
    for name, rows in tables.items():
        write_csv(root / f"{name}.csv", HEADER, rows)
    return root


def test_end_to_end(raw, tmp_path, skipped):
    chexpert(raw.parent, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.labels == LABELS == sorted(LABELS)
    rows = prepared.index.to_pylist()
    assert [row["image_id"] for row in rows] == [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study1/view1_frontal.jpg",
        "train/patient00003/study1/view1_frontal.jpg",
        "train/patient00003/study1/view2_frontal.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    ]
    assert [row["subject_id"] for row in rows[:2]] == ["patient00001", "patient00002"]
    assert rows[1]["study_id"] == "patient00002/study2"
    assert {row["view"] for row in rows} == {"FRONTAL"}
    assert {name: rows[1][f"label/{name}"] for name in LABELS} == {
        **dict.fromkeys(LABELS),
        "Cardiomegaly": -1,
        "Edema": 1,
    }
    assert rows[0]["label/Pleural Effusion"] == 0
    assert rows[0]["findings"] is None
    assert [row["split"] for row in rows] == ["train"] * 5 + ["test"]
    assert [row["split/5x200"] for row in rows] == ["train"] * 5 + [""]
    assert [*prepared.split_variants] == ["patients", "reported", "5x200"]
    assert skipped(tmp_path / "out") == [
        ("train/patient00002/study1/view2_lateral.jpg", "view LATERAL"),
        ("valid/patient64541/study1/view2_lateral.jpg", "view LATERAL"),
    ]
    assert prepared.manifest["options"]["synthetic"] is False


def test_views_and_folder_itself(raw, tmp_path):
    (raw / "SYNTHETIC.txt").touch()
    chexpert(raw, tmp_path / "out", size=32, views="lateral", workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == [
        "train/patient00002/study1/view2_lateral.jpg",
        "valid/patient64541/study1/view2_lateral.jpg",
    ]
    assert prepared.synthetic


def test_two_copies(raw, tmp_path):
    (raw.parent / "CheXpert-v1.0").mkdir()
    with pytest.raises(UserError, match=r"two copies.*CheXpert-v1\.0' or .*CheXpert-v1\.0-small'"):
        chexpert(raw.parent, tmp_path / "out")


def test_damaged_rows_and_images(raw, tables, tmp_path, write_csv, jpeg, skipped):
    train = tables["train"]
    train += [
        train[0],
        row("train/patient00009/study1/view1_frontal.jpg"),
        row("train/patient00001/study1/view9_frontal.jpg", Edema="yes"),
        ["too", "short"],
        row("view1_frontal.jpg"),
        row("train/../../../secret.jpg"),
        row("train/patient00001/study1/view8_frontal.jpg", ""),
    ]
    write_csv(raw / "train.csv", HEADER, train)
    write_csv(raw / "valid.csv", HEADER, [*tables["valid"], train[1]])
    path = raw / "train/patient00002/study2/view1_frontal.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    chexpert(raw, tmp_path / "out", size=32, workers=1)
    found = dict(skipped(tmp_path / "out"))
    assert found["train/patient00002/study2/view1_frontal.jpg"] == "truncated image"
    assert found["train/patient00009/study1/view1_frontal.jpg"] == "missing file"
    assert found["train.csv:8"] == found["valid.csv:4"] == "duplicate id"
    assert found["train.csv:10"] == "unreadable row: label 'yes'"
    assert found["train.csv:11"] == "unreadable row: 2 fields, not 19"
    assert found["train.csv:12"] == "unreadable row: Path"
    assert found["train/../../../secret.jpg"] == "escapes root"
    assert found["train/patient00001/study1/view8_frontal.jpg"] == "view not given"
    counts = Prepared.open(tmp_path / "out").manifest["counts"]
    assert counts["table"] == 16 == counts["decoded"] + len(found)
    assert counts["decoded"] == 5


@pytest.fixture(scope="module")
def complete(shared_data, tmp_path_factory):
    """The studies of the real train.csv, and of a valid.csv of the real size."""
    root = tmp_path_factory.mktemp("chexpert")
    (root / "train").mkdir()
    shutil.copy(shared_data / "labels/chexpert_train.csv.gz", root / "train.csv.gz")
    views = ["Frontal"] * 202 + ["Lateral"] * 32
    rows = [row(f"valid/patient{64541 + i}/study1/view1.jpg", view) for i, view in enumerate(views)]
    with gzip.open(root / "valid.csv.gz", "wt") as file:
        file.writelines(",".join(fields) + "\n" for fields in [HEADER, *rows])
    data = CheXpert(root)
    studies, skips = read(data)
    assert skips == []
    assert data.rows == len(studies) == data.documented == 223_414 + 234
    return data, studies


@pytest.mark.slow
def test_real_table(complete):
    _, studies = complete
    train = [study for study in studies if study.pictures[0].path.startswith("train/")]
    assert len(train) == 223_414
    assert len({study.subject_id for study in train}) == 64_540
    frontal = [study.labels for study in train if study.pictures[0].view == "FRONTAL"]
    assert len(frontal) == 191_027
    count = {name: Counter(values) for name, values in zip(LABELS, zip(*frontal, strict=True), strict=True)}
    assert {name: (count[name][1], count[name][-1]) for name in CLASSES} == {
        "Atelectasis": (29_720, 29_863),
        "Cardiomegaly": (23_385, 6_707),
        "Consolidation": (12_983, 24_381),
        "Edema": (49_675, 11_818),
        "Pleural Effusion": (76_899, 9_578),
    }


@pytest.mark.slow
def test_real_splits(complete):
    data, studies = complete
    frontal = [study for study in studies if study.pictures[0].view == "FRONTAL"]
    for variant, others in (("patients", {"5x200": 1_000}), ("reported", {})):
        splits = [study.split if variant == "patients" else study.other_splits[variant] for study in frontal]
        assert Counter(splits) == {**data.splits[variant].documented, **others}
    assert data.splits["reported"].documented == {"train": 186_027, "validate": 5_000, "test": 202}
    # No patient is in two splits, by lateral images neither; 5x200 is apart.
    for split_of in (lambda study: study.split, lambda study: study.other_splits["reported"]):
        pairs = {(study.subject_id, split_of(study)) for study in studies if split_of(study) != "5x200"}
        assert len(pairs) == len({patient for patient, _ in pairs})
    alone = [(study, study.other_splits["5x200"]) for study in studies]
    assert {study.split for study, split in alone if split == "test"} == {"5x200"}
    assert Counter(split for _, split in alone)["test"] == 1_000
    pairs = {(study.subject_id, split) for study, split in alone if split}
    assert len(pairs) == len({patient for patient, _ in pairs})
    assert all(study.split == split for study, split in alone if split in ("train", "validate"))


@pytest.mark.slow
def test_real_5x200(complete):
    data, studies = complete
    frontal = [row for row in read_rows(read_table, data.tables["train"], set(), print) if row.view == "FRONTAL"]
    alone = candidates(((row.image_id, row.values) for row in frontal), LABELS)
    assert {name: len(images) for name, images in alone.items()} == {
        "Atelectasis": 1_087,
        "Cardiomegaly": 1_034,
        "Consolidation": 537,
        "Edema": 2_257,
        "Pleural Effusion": 2_425,
    }
    drawn = sorted(study.pictures[0].image_id for study in studies if study.split == "5x200")
    classes = {image: name for name, images in alone.items() for image in images}
    assert Counter(classes[image] for image in drawn) == dict.fromkeys(CLASSES, 200)
    # Of the images that pandas draws, by MGCA's own steps.
    assert hashlib.sha256("\n".join(drawn).encode()).hexdigest()[:16] == "4d61ce58bd4fc6a7"


@pytest.mark.parametrize("around", ["", "chexpertchestxrays-u20210408"])
def test_batches_of_the_full_size_download(raw, tmp_path, around):
    chexpert(raw, tmp_path / "out", size=32, workers=1)
    root = tmp_path / "download" / around
    first = root / "CheXpert-v1.0 batch 1 (validate & csv)"
    first.mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "valid"):
        shutil.move(raw / name, first / name)
    for number, patient in enumerate(sorted((raw / "train").iterdir())):
        batch = root / f"CheXpert-v1.0 batch {number + 2} (train {number + 1})"
        batch.mkdir()
        shutil.move(patient, batch / patient.name)
    chexpert(tmp_path / "download", tmp_path / "batches", size=32, workers=1)
    expected, rows = (Prepared.open(tmp_path / name).index.to_pylist() for name in ("out", "batches"))
    assert len(expected) == 6
    assert rows[1].pop("path") == "CheXpert-v1.0 batch 3 (train 2)/patient00002/study2/view1_frontal.jpg"
    for one, other in zip(expected, rows, strict=True):
        assert {**one, "path": ""} == {**other, "path": ""}
    assert (tmp_path / "batches/images.npy").read_bytes() == (tmp_path / "out/images.npy").read_bytes()


def test_a_folder_of_archives_says_what_to_unpack(tmp_path):
    (tmp_path / "CheXpert-v1.0 batch 1 (validate & csv).zip").touch()
    with pytest.raises(UserError, match=r"the unpacked folders 'CheXpert-v1\.0 batch 1"):
        CheXpert(tmp_path)


@pytest.fixture
def with_test(raw, jpeg, write_csv):
    """The official test set beside train.csv: three images of two patients, and one row for nothing."""
    images = [f"test/patient64741/study1/view{n}.jpg" for n in ("1_frontal", "2_frontal", "3_lateral")]
    images += ["test/patient64742/study1/view1_frontal.jpg"]
    for number, path in enumerate(images):
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_bytes(jpeg(seed=40 + number))
    rows = [[path, *("1.0" if name == "Edema" else "0.0" for name in RAW)] for path in [*images, images[0], "x.jpg"]]
    write_csv(raw / "test_labels.csv", ["Path", *RAW], rows)
    return raw


def test_official_test_set(with_test, tmp_path, skipped):
    """Its table has no columns for sex, age and view."""
    chexpert(with_test, tmp_path / "out", size=32, views="FRONTAL,LATERAL", workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert [*prepared.split_variants] == ["patients", "reported", "5x200", "official", "official_studies"]
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    test = {name: row for name, row in rows.items() if name.startswith("test/")}
    assert [row["view"] for row in test.values()] == ["FRONTAL", "FRONTAL", "LATERAL", "FRONTAL"]
    assert [row["split/official_studies"] for row in test.values()] == ["test", "", "", "test"]
    assert {
        (row["split"], row["split/reported"], row["split/5x200"], row["split/official"]) for row in test.values()
    } == {("", "", "", "test")}
    assert {row["label/Edema"] for row in test.values()} == {1}
    assert {row["split/official"] for name, row in rows.items() if name.startswith("valid/")} == {"validate"}
    assert {row["split/official"] for name, row in rows.items() if name.startswith("train/")} == {"train"}
    assert dict(skipped(tmp_path / "out")) == {
        "test_labels.csv:6": "duplicate id",
        "test_labels.csv:7": "unreadable row: Path",
    }
    assert prepared.manifest["documented"] == 223_414 + 234 + 668
    assert prepared.manifest["options"]["test"] == "test_labels.csv"


@pytest.mark.parametrize("place", ["CheXpert", "chexlocalize/CheXpert"])
def test_official_test_set_as_it_is_handed_out(with_test, tmp_path, place):
    chexpert(with_test, tmp_path / "expected", size=32, workers=1)
    (with_test / place).mkdir(parents=True)
    for name in ("test", "test_labels.csv"):
        shutil.move(with_test / name, with_test / place / name)
    chexpert(with_test, tmp_path / "out", size=32, workers=1)
    expected, index = (Prepared.open(tmp_path / name).index.drop_columns(["path"]) for name in ("expected", "out"))
    assert index.equals(expected)
    shutil.rmtree(with_test / place / "test")
    with pytest.raises(UserError, match=rf"{place}' holds no folder 'test'\. .*put or link test_labels\.csv"):
        CheXpert(with_test)


def test_without_the_official_test_set_nothing_changes(raw, with_test, tmp_path):
    (raw / "test_labels.csv").unlink()
    chexpert(raw, tmp_path / "out", size=32, workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert [*prepared.split_variants] == ["patients", "reported", "5x200"]
    assert "test" not in prepared.manifest["options"]
