"""PadChest-GR: sentences in two languages, their boxes and labels, and damaged entries."""

import json
import shutil

import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.padchest_gr import padchest_gr
from medvlp.prepare.layouts.grounded import read_findings
from medvlp.prepared import Prepared
from tests.support.raw import read_lines, write_lines

REPORTS = "grounded_reports_20240819.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("padchest_gr") / "phantom"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="padchest_gr")
    return out / "padchest-gr"


@pytest.fixture(scope="module")
def clean(made, tmp_path_factory):
    return run(made, tmp_path_factory.mktemp("clean") / "out")


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "raw")


def run(root, out, **options):
    padchest_gr(root, out, **{"regions": "none", "size": 32, "workers": 1, **options})
    return Prepared.open(out)


def entries(root):
    return json.loads((root / REPORTS).read_text())


def test_end_to_end(made, clean):
    rows = clean.index.to_pylist()
    truth = {entry["ImageID"]: entry for entry in entries(made)}
    assert len(rows) == len(truth) == clean.manifest["counts"]["table"]
    with_boxes = 0
    for row in rows:
        findings = truth[row["image_id"]]["findings"]
        assert row["findings"] == " ".join(f["sentence_en"] for f in findings)
        assert row["impression"] is None
        drawn = [(f["sentence_en"].rstrip("."), box) for f in findings for box in f.get("boxes", [])]
        assert [box["phrase"] for box in row["boxes"]] == [phrase for phrase, _ in drawn]
        scale = 32 / max(row["height"], row["width"])
        for box, (_, (x1, _, x2, _)) in zip(row["boxes"], drawn, strict=True):
            assert box["x2"] - box["x1"] == pytest.approx((x2 - x1) * row["width"] * scale, abs=0.6)
        positive = {name for f in findings if f["abnormal"] for name in f["labels"]}
        assert {name for name in clean.labels if row[f"label/{name}"] == 1} == positive
        with_boxes += bool(drawn)
    assert 5 < with_boxes < len(rows)
    assert {row["split"] for row in rows} == {"train", "validate", "test"}
    assert clean.split_variants["all"]["counts"]["test"] == len(rows)
    assert clean.synthetic


def test_spanish(made, clean, tmp_path):
    prepared = run(made, tmp_path / "out", language="es")
    truth = {entry["ImageID"]: entry for entry in entries(made)}
    for row in prepared.index.to_pylist():
        assert row["findings"] == " ".join(f["sentence_es"] for f in truth[row["image_id"]]["findings"])
    assert prepared.labels == clean.labels
    assert prepared.manifest["options"]["language"] == "es"
    with pytest.raises(UserError, match="language is es there and en now"):
        run(made, tmp_path / "out")


def test_a_batch(clean):
    data = CXRDataModule(clean.root, batch_size=4, crop=28, num_workers=0, targets="box")
    data.setup("test")
    assert next(iter(data.test_dataloader()))["image"].shape[0] > 0


def test_damaged_entries(root, clean, tmp_path, skipped):
    content = entries(root)
    drawn = [number for number, entry in enumerate(content) if entry["findings"][0].get("boxes")]
    box, text, *_ = drawn
    content[box]["findings"][0]["boxes"][0] = [0.5, 0.5, 0.4, 0.9]
    content[text]["findings"][0]["sentence_en"] = None
    lost = [content[number]["ImageID"] for number in (box, text)]
    content += [content[-1], {"StudyID": "1"}, None, {**content[-1], "ImageID": "x.png", "StudyID": "unknown"}]
    content.append({**content[drawn[2]], "ImageID": "../secret.png"})
    (root / REPORTS).write_text(json.dumps(content))
    (tmp_path / "secret.png").write_bytes(next((root / "PadChest_GR").iterdir()).read_bytes())
    prepared = run(root, tmp_path / "out")
    kept = clean.index.filter([name not in lost for name in clean.index["image_id"].to_pylist()])
    assert prepared.index["image_id"] == kept["image_id"]
    assert prepared.index["findings"] == kept["findings"]
    first = len(clean.index) + 1
    assert dict(skipped(tmp_path / "out")) == {
        lost[0]: "unreadable row: a box",
        lost[1]: "unreadable row: a finding without sentence_en",
        f"{REPORTS}:entry {first}": "duplicate id",
        f"{REPORTS}:entry {first + 1}": "unreadable entry: ImageID or StudyID",
        f"{REPORTS}:entry {first + 2}": "unreadable entry: no object",
        "x.png": "not in the split table",
        "../secret.png": "escapes root",
    }
    assert prepared.manifest["counts"]["table"] == len(content)


def test_rows_of_the_table_that_contradict(root, clean, tmp_path, skipped):
    header, *lines = read_lines(root / "master_table.csv")
    names = header.split(",")
    fields = lines[0].split(",")
    other = dict(zip(names, fields, strict=False)) | {"sentence_en": "x", "sentence_es": "y"}
    other["split"] = "test" if other["split"] != "test" else "train"
    unknown = other | {"split": "holdout"}
    nobody = other | {"PatientID": ""}
    more = [",".join(row.get(name, "") for name in names) for row in (other, unknown, nobody)]
    write_lines(root / "master_table.csv", [header, *lines, *more])
    assert run(root, tmp_path / "out").index.equals(clean.index)
    reasons = [why for _, why in skipped(tmp_path / "out")]
    assert reasons[0] == "unreadable row: another patient or split than above"
    assert reasons[1] == "unreadable row: StudyID, PatientID or split 'holdout'"
    assert reasons[2].startswith("unreadable row: StudyID, PatientID or split '")


@pytest.mark.parametrize("content", [b"[{", b'{"a": 1}', b"", b"<html>"])
def test_a_broken_file_of_sentences(root, tmp_path, content):
    (root / REPORTS).write_bytes(content)
    with pytest.raises(UserError, match=rf"{REPORTS}' (cannot be read as JSON|holds no JSON list)"):
        run(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_that_are_not_unpacked(root, tmp_path):
    shutil.rmtree(root / "PadChest_GR")
    (root / "PadChest_GR.zip.001").touch()
    with pytest.raises(NotFoundError, match=r"but PadChest_GR\.zip\.001\. Join its parts and unpack them: cat"):
        run(root, tmp_path / "out")


@pytest.mark.parametrize(
    "box", [[0, 0, 1], "abcd", None, [0, 0, 1, "x"], [0.2, 0, 0.1, 1], [0, 0, 1.5, 1], [0, 0, float("nan"), 1]]
)
def test_boxes_that_are_none(box):
    finding = {"sentence_en": "A nodule.", "abnormal": True, "labels": ["nodule"], "boxes": [box]}
    with pytest.raises(LeftOutError, match="a box"):
        read_findings({"findings": [finding]}, "en")


def test_sentences_and_names():
    findings = [
        {"sentence_en": " Nodule  seen", "abnormal": True, "labels": [], "boxes": [[0.1, 0.2, 0.3, 1.005]]},
        {"sentence_en": "Clear lungs.", "abnormal": False, "boxes": None},
    ]
    sentences, boxes = read_findings({"findings": findings}, "en")
    assert sentences == ["Nodule seen.", "Clear lungs."]
    assert [(box.name, box.phrase, box.y2) for box in boxes] == [("finding", "Nodule seen", 1.005)]
