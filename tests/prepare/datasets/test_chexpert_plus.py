"""CheXpert Plus: which rows, which text, which split, and which images; and damaged files."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import NotFoundError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.chexpert import chexpert
from medvlp.prepare.datasets.chexpert_plus import CheXpertPlus, chexpert_plus
from medvlp.prepare.layouts import chexpert_table
from medvlp.prepare.text_file import TextFile
from medvlp.prepared import Prepared

pytestmark = pytest.mark.slow
SIZE = 32
TABLE = "df_chexpert_plus_240401.csv"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "p"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="chexpert_plus,chexpert")
    return out


@pytest.fixture
def raw(drawn, tmp_path):
    shutil.copytree(drawn / "chexpert_plus", tmp_path / "raw")
    return tmp_path / "raw"


def prepare(raw, out, **options):
    chexpert_plus(raw, out, **{"size": SIZE, "workers": 1, "regions": "none", **options})
    return Prepared.open(out)


def read(raw):
    with open(raw / TABLE, newline="") as file:
        return [*csv.DictReader(file)]


def write(raw, rows):
    with open(raw / TABLE, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def news(prepared, clean, skipped):
    return dict(sorted(set(skipped(prepared.root)) - set(skipped(clean.root))))


def test_end_to_end(raw, tmp_path, skipped):
    prepared = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL", min_words=0)
    rows, table = prepared.index.to_pylist(), {row["path_to_image"]: row for row in read(raw)}
    assert {row["image_id"] for row in rows} | {name for name, _ in skipped(prepared.root)} == {*table}
    for row in rows:
        of_table = table[row["image_id"]]
        assert row["split"] == {"train": "train", "valid": "validate"}[of_table["split"]]
        assert row["subject_id"] == of_table["deid_patient_id"] == row["image_id"].split("/")[1]
        assert row["view"] == of_table["frontal_lateral"].upper()
        assert row["path"] == f"PNG/PNG/{row['image_id'].replace('.jpg', '.png')}"
        for name in ("findings", "impression"):
            if of_table["section_findings"] or of_table["section_impression"]:
                assert (row[name] or "") == of_table[f"section_{name}"]
    counts = prepared.manifest["counts"]["sections_found"]
    assert counts["impression_only"] > counts["both"] > 0
    assert len({row["study_id"] for row in rows}) < len(rows)
    labels = json.loads((raw / "chexbert_labels/impression_fixed.json").read_text().splitlines()[0])
    name = labels.pop("path_to_image")
    (row,) = [row for row in rows if row["image_id"] == name]
    assert {name: row[f"label/{name}"] for name in labels} == labels
    assert (prepared.root / "triplets.parquet").exists()


def test_a_batch_of_reports(raw, tmp_path):
    prepare(raw, tmp_path / "out")
    module = CXRDataModule(tmp_path / "out", resize=SIZE, crop=SIZE, batch_size=4, num_workers=0, views=1)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (4, 1, SIZE, SIZE)
    assert all(a or b for a, b in zip(batch["findings"], batch["impression"], strict=True))


def test_splits_keep_patients_apart(raw, tmp_path):
    rows = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL").index.to_pylist()
    for variant in ("official", "patients"):
        pairs = {(row["subject_id"], row[f"split/{variant}"]) for row in rows}
        assert len(pairs) == len({patient for patient, _ in pairs})
    moved = {(row["split/official"], row["split/patients"]) for row in rows}
    assert moved <= {("train", "train"), ("validate", "validate"), ("train", "test")}


def test_5x200_by_the_table_of_chexpert(raw, drawn, tmp_path, monkeypatch):
    """The images that CheXpert draws, here all candidates, are test, and none of their patients is elsewhere."""
    monkeypatch.setattr(chexpert_table, "FRONTAL", 30)
    train = drawn / "CheXpert-v1.0-small/train.csv"
    prepared = prepare(raw, tmp_path / "out", train_csv=train, min_words=0)
    chexpert(train.parent, tmp_path / "chexpert", size=SIZE, workers=1)
    expected = {row["image_id"] for row in images(tmp_path / "chexpert") if row["split/5x200"] == "test"}
    assert expected
    rows = prepared.index.to_pylist()
    test = {row["image_id"] for row in rows if row["split/5x200"] == "test"}
    assert test == expected
    apart = {image.split("/")[1] for image in expected}
    assert all((row["split/5x200"] in ("", "test")) == (row["subject_id"] in apart) for row in rows)
    with pytest.raises(NotFoundError, match=r"--train_csv='nowhere\.csv' is not there"):
        prepare(raw, tmp_path / "other", train_csv=Path("nowhere.csv"))


def images(root):
    return Prepared.open(root).index.to_pylist()


def test_which_text(raw, tmp_path, skipped):
    """Impression is enough, over several lines; without both sections, a study is left out."""
    rows = read(raw)
    studies = list(dict.fromkeys(row["path_to_image"].rpartition("/")[0] for row in rows))
    impression = "\n1. SMALL LEFT EFFUSION,\nUNCHANGED SINCE YESTERDAY.\n"
    for row in rows:
        study = row["path_to_image"].rpartition("/")[0]
        if study == studies[0]:
            row.update(section_findings="nan", section_impression=impression)
        if study == studies[1]:
            row.update(section_findings=" ", section_impression="None", report=f"IMPRESSION: {impression}")
    write(raw, rows)
    prepared = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL")
    texts = {
        (row["findings"], " ".join(row["impression"].split()))
        for row in prepared.index.to_pylist()
        if row["image_id"].startswith(f"{studies[0]}/")
    }
    assert texts == {(None, "1. SMALL LEFT EFFUSION, UNCHANGED SINCE YESTERDAY.")}
    reasons = {reason for name, reason in skipped(prepared.root) if name.startswith(f"{studies[1]}/")}
    assert reasons == {"report has neither findings nor impression"}


def test_damaged_rows(raw, tmp_path, skipped):
    clean = prepare(raw, tmp_path / "clean", views="FRONTAL,LATERAL")
    rows = read(raw)
    one = next(row for row in rows if row["split"] == "train")
    at = "/".join(one["path_to_image"].split("/")[:3])
    bad = [
        {**one, "path_to_image": "view1_frontal.jpg"},
        {**one, "path_to_image": f"{at}/view7_frontal.jpg", "split": "holdout"},
        {**one, "path_to_image": f"{at}/view7_frontal.jpg", "split": "valid"},
        {**one, "path_to_image": f"{at}/view7_frontal.jpg", "section_impression": "Another one."},
        {**one, "path_to_image": f"{at}/view8_frontal.jpg"},
        {**one, "path_to_image": "train/patient1/../view1_frontal.jpg"},
        {**one, "path_to_image": f"{at}/view9_frontal.jpg", "frontal_lateral": ""},
        one,
    ]
    write(raw, [*rows, *bad])
    prepared = prepare(raw, tmp_path / "out", views="FRONTAL,LATERAL")
    first = sum(1 for _ in (raw / TABLE).open()) - len(bad) + 1
    assert news(prepared, clean, skipped) == {
        f"{TABLE}:{first}": "unreadable row: path_to_image",
        f"{TABLE}:{first + 1}": "unreadable row: split 'holdout'",
        f"{TABLE}:{first + 2}": "unreadable row: another split than above in its study",
        f"{TABLE}:{first + 3}": "unreadable row: another report than above in its study",
        f"{at}/view8_frontal.jpg": "missing file",
        "train/patient1/../view1_frontal.jpg": "escapes root",
        f"{at}/view9_frontal.jpg": "view not given",
        f"{TABLE}:{first + 7}": "duplicate id",
    }
    assert prepared.index.drop_columns(["row"]).equals(clean.index.drop_columns(["row"]))


def test_damaged_labels(raw, tmp_path, skipped):
    clean = prepare(raw, tmp_path / "clean")
    path = raw / "chexbert_labels/impression_fixed.json"
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    other = {**first, "Edema": 1.0 if first["Edema"] != 1.0 else 0.0}
    lines += [
        json.dumps({**first, "Edema": "maybe"}),
        json.dumps(other),
        "{",
        "[1]",
        json.dumps({**first, "Edema": []}),
    ]
    path.write_text("\n".join(lines).replace("null", "NaN", 1) + "\n")
    prepared = prepare(raw, tmp_path / "out")
    count = len(lines) - 5
    assert news(prepared, clean, skipped) == {
        f"{path.name}:{count + 1}": "unreadable row: label 'maybe'",
        f"{path.name}:{count + 2}": "duplicate id",
        f"{path.name}:{count + 3}": "unreadable row: no JSON object",
        f"{path.name}:{count + 4}": "unreadable row: no JSON object",
        f"{path.name}:{count + 5}": "unreadable row: a list or an object, not a text",
    }
    assert prepared.index.equals(clean.index)


def test_labels_of_another_section_and_none(raw, tmp_path):
    with pytest.raises(NotFoundError, match=r"no chexbert_labels/findings_fixed\.json\. .* Or give --labels none\."):
        prepare(raw, tmp_path / "out", labels="findings")
    assert prepare(raw, tmp_path / "out", labels="none").labels == []


@pytest.mark.parametrize(
    "place", ["PNG/{}", "PNGs/{}", "PNG_{}", "PNG_{}/{}", "{}", "CheXpert-v1.0-small/{}", "DICOM/Compressed/{}"]
)
def test_images_are_found_wherever_they_lie(raw, tmp_path, place):
    expected = prepare(raw, tmp_path / "expected").index.drop_columns(["path"])
    for part in ("train", "valid"):
        target = raw / place.format(part, part)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(raw / "PNG/PNG" / part, raw / f"moved_{part}")
    shutil.rmtree(raw / "PNG")
    for part in ("train", "valid"):
        target = raw / place.format(part, part)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(raw / f"moved_{part}", target)
    assert prepare(raw, tmp_path / "out").index.drop_columns(["path"]).equals(expected)


def test_the_jpegs_of_chexpert(raw, drawn, tmp_path):
    """The images of the old CheXpert, whole or in its batches, in place of its own."""
    expected = prepare(raw, tmp_path / "expected").index
    shutil.rmtree(raw / "PNG")
    with pytest.raises(NotFoundError, match=r"--root='.*raw' holds no folder of images\. Download CheXpert Plus"):
        prepare(raw, tmp_path / "out")
    rows = prepare(raw, tmp_path / "out", images=drawn / "CheXpert-v1.0-small")
    assert rows.index["image_id"] == expected["image_id"]
    assert rows.manifest["options"]["images"] == ".jpg"
    batches = tmp_path / "batches"
    for part, batch in (("valid", "1 (validate & csv)/valid"), ("train", "2 (train 1)")):
        shutil.copytree(drawn / "CheXpert-v1.0-small" / part, batches / f"CheXpert-v1.0 batch {batch}")
    again = prepare(raw, tmp_path / "again", images=batches).index
    assert again.drop_columns(["path"]).equals(rows.index.drop_columns(["path"]))
    with pytest.raises(NotFoundError, match=r"--images='.*nothing' is not there"):
        CheXpertPlus(raw, tmp_path / "nothing", "none", None, None)


def test_the_latest_of_several_tables(raw, tmp_path):
    shutil.copy(raw / TABLE, raw / "df_chexpert_plus_250101.csv")
    (raw / TABLE).write_text("path_to_image\n")
    options = prepare(raw, tmp_path / "out").manifest["options"]
    assert options["table"] == "df_chexpert_plus_250101.csv"
    assert options["text"].startswith("section_findings and section_impression")


def test_texts_on_disk():
    file = TextFile()
    texts = [["", "a\nb", "\u00e4"], ["c"], []]
    positions = [file.add(text) for text in texts]
    assert [file.read(position) for position in reversed(positions)] == texts[::-1]
    assert file.read(file.add(["d"])) == ["d"]
