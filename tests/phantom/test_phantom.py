"""The written folder: reproducible, complete, consistent with itself and with its truth."""

import csv
import gzip
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from medvlp.errors import UserError
from medvlp.phantom import grammar, phantom
from medvlp.phantom.truth import read_mask
from medvlp.phantom.world import DEVICES, REGIONS

N = 40
# What the report may call a drawn finding, and what it may say beside it.
OTHER_NAMES = {"mass": "nodule", "nodular opacity": "nodule", "opacity": "consolidation"}
SIGNS = {*grammar.SIGNS.values(), "pneumonia", "tip", "low lung volumes"}
JPG = "mimic-cxr-jpg/2.0.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "p"
    phantom(out, studies=N, seed=3, size=128, workers=1)
    return out


def digest(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def table(root: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(root / JPG / f"mimic-cxr-2.0.0-{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def lines(root: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (root / "truth" / name).read_text().splitlines()]


def text_of(root: Path, record: dict) -> str:
    subject = str(record["subject_id"])
    path = root / f"mimic-cxr-reports/files/p{subject[:2]}/p{subject}/s{record['study_id']}.txt"
    return path.read_bytes().decode()


@pytest.mark.slow
def test_workers_change_nothing(made: Path, tmp_path: Path) -> None:
    phantom(tmp_path / "q", studies=N, seed=3, size=128, workers=2)
    assert digest(tmp_path / "q") == digest(made)


@pytest.mark.slow
def test_first_studies_do_not_depend_on_the_number(made: Path, tmp_path: Path) -> None:
    phantom(tmp_path / "few", studies=9, seed=3, size=128, workers=1)
    few, many = digest(tmp_path / "few"), digest(made)
    per_study = [name for name in few if not name.endswith((".csv", ".csv.gz", ".jsonl", "phantom.json"))]
    assert len(per_study) > 30
    assert [name for name in per_study if few[name] != many.get(name)] == []
    for name in ("metadata", "split", "chexpert"):
        rows = table(tmp_path / "few", name)
        assert rows == table(made, name)[: len(rows)]


def test_another_seed_gives_others(made: Path, tmp_path: Path) -> None:
    phantom(tmp_path / "other", studies=3, seed=4, size=64, workers=1)
    ids = {r["dicom_id"] for r in table(tmp_path / "other", "metadata")}
    assert not ids & {r["dicom_id"] for r in table(made, "metadata")}


def test_interrupted_run_is_completed(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    phantom(out, studies=3, seed=3, size=64, workers=1)
    whole = digest(out)
    next(out.rglob("*.jpg")).unlink()
    (out / JPG / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    phantom(out, studies=3, seed=3, size=64, workers=1)
    assert digest(out) == whole


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        phantom(tmp_path, studies=1, size=64, workers=1)
    out = tmp_path / "p"
    phantom(out, studies=1, size=64, workers=1)
    with pytest.raises(UserError, match="another phantom"):
        phantom(out, studies=1, seed=9, size=64, workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        phantom(tmp_path / "file" / "p", studies=1, size=64, workers=1)


@pytest.mark.parametrize(("name", "value"), [("studies", 0), ("size", 8), ("seed", -1), ("workers", 0)])
def test_values_out_of_range(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{name}={value}"):
        phantom(tmp_path / "p", **{name: value})


def test_layout_is_complete(made: Path) -> None:
    meta, split, labels = table(made, "metadata"), table(made, "split"), table(made, "chexpert")
    assert list(meta[0])[:7] == [
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
    ]
    assert list(split[0]) == ["dicom_id", "study_id", "subject_id", "split"]
    assert list(labels[0])[2:] == sorted(list(labels[0])[2:])
    assert len(labels[0]) == 16
    assert [r["dicom_id"] for r in meta] == [r["dicom_id"] for r in split]
    assert len(labels) == N
    assert len({r["study_id"] for r in labels}) == N
    expected = set()
    for row in meta:
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", row["dicom_id"])
        assert re.fullmatch(r"1\d{7}", row["subject_id"])
        assert re.fullmatch(r"5\d{7}", row["study_id"])
        folder = f"files/p{row['subject_id'][:2]}/p{row['subject_id']}/s{row['study_id']}"
        expected.add(f"{JPG}/{folder}/{row['dicom_id']}.jpg")
        image = cv2.imread(str(made / JPG / folder / f"{row['dicom_id']}.jpg"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (int(row["Rows"]), int(row["Columns"]))
        assert max(image.shape) == 128
        assert image.std() > 20
        assert (made / "mimic-cxr-reports" / f"{folder}.txt").is_file()
        graph = made / f"chest-imagenome/1.0.0/silver_dataset/scene_graph/{row['dicom_id']}_SceneGraph.json"
        assert graph.is_file() == (row["ViewPosition"] != "LATERAL")
    assert expected == {str(p.relative_to(made)) for p in made.rglob("*.jpg")}
    assert {r["ViewPosition"] for r in meta} == {"PA", "AP", "LATERAL"}
    assert all(len({r["split"] for r in split if r["subject_id"] == s}) == 1 for s in {r["subject_id"] for r in split})


def test_triplets_lie_in_the_report_and_agree_with_what_is_drawn(made: Path) -> None:
    for record in lines(made, "reports.jsonl"):
        text = text_of(made, record)
        drawn = {f["name"]: f for f in record["findings"]}
        for s in record["sentences"]:
            assert " ".join(text[s["start"] : s["end"]].split()) == s["sentence"]
            assert s["sentence"].endswith(".")
            assert "  " not in s["sentence"]
            assert "<" not in s["sentence"]
            assert not re.search(r"\b[Aa] [aeio]|[{}|]", s["sentence"]), s["sentence"]
            for t in s["triplets"]:
                assert set(t["regions"]) <= set(REGIONS)
                name = OTHER_NAMES.get(t["finding"], t["finding"])
                if t["existence"] == "absent":
                    assert name not in drawn
                elif name in drawn:
                    source = drawn[name]
                    assert t["side"] in (None, source["side"])
                    assert t["zone"] in (None, source["zone"])
                    assert t["severity"] in (None, source["severity"])
                else:
                    assert t["finding"] in SIGNS


def test_chexpert_agrees_with_the_triplets(made: Path) -> None:
    rows = {int(r["study_id"]): r for r in table(made, "chexpert")}
    for record in lines(made, "reports.jsonl"):
        row = rows[record["study_id"]]
        said = [t for s in record["sentences"] for t in s["triplets"]]
        for finding, column in (
            ("pleural effusion", "Pleural Effusion"),
            ("edema", "Edema"),
            ("opacity", "Lung Opacity"),
        ):
            existences = {t["existence"] for t in said if t["finding"] == finding}
            value = "1.0" if "present" in existences else "-1.0" if "uncertain" in existences else "0.0"
            assert row[column] == (value if existences else "")
        if any(t["finding"] in DEVICES and t["existence"] == "present" for t in said):
            assert row["Support Devices"] == "1.0"
        ill = any(
            row[c] in ("1.0", "-1.0")
            for c in row
            if c not in ("subject_id", "study_id", "Support Devices", "No Finding")
        )
        assert row["No Finding"] == ("" if ill else "1.0")


def test_boxes_and_masks(made: Path) -> None:
    seen: Counter[str] = Counter()
    for record in lines(made, "images.jsonl"):
        rows, columns = record["rows"], record["columns"]
        subject = str(record["subject_id"])
        path = made / f"truth/masks/files/p{subject[:2]}/p{subject}/s{record['study_id']}/{record['dicom_id']}.png"
        for x1, y1, x2, y2 in record["regions"].values():
            assert 0 <= x1 < x2 <= columns
            assert 0 <= y1 < y2 <= rows
        for f in record["findings"]:
            if f["drawn"]:
                mask = read_mask(path, f["name"])
                x1, y1, x2, y2 = f["box"]
                assert mask.shape == (rows, columns)
                assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0
                seen[f["name"]] += 1
        if record["view"] == "LATERAL":
            assert record["regions"] == {}
            assert record["heart_ratio"] is None
            continue
        assert all(f["drawn"] for f in record["findings"])
        boxes = record["regions"]
        assert len(boxes) == len(REGIONS)
        middle = {k: (b[0] + b[2]) / 2 for k, b in boxes.items()}
        assert middle["right lung"] < middle["cardiac silhouette"] < middle["left lung"]
        big = any(f["name"] == "cardiomegaly" for f in record["findings"])
        assert (record["heart_ratio"] > 0.5) == big
        lungs = read_mask(path, "right lung"), read_mask(path, "left lung")
        assert np.nonzero(lungs[0])[1].mean() < np.nonzero(lungs[1])[1].mean()
        for f in record["findings"]:
            if f["zone"] and f["side"] != "bilateral":
                region = boxes[f"{f['side']} {f['zone']} lung zone"]
                assert _overlap(f["box"], region) > 0.3 * _area(f["box"]), (f, region)
    assert len(seen) >= 9


def _area(b: list[int]) -> int:
    return max(b[2] - b[0], 0) * max(b[3] - b[1], 0)


def _overlap(a: list[int], b: list[int]) -> int:
    return _area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def test_scene_graphs(made: Path) -> None:
    for path in (made / "chest-imagenome").rglob("*.json"):
        graph = json.loads(path.read_text())
        assert 20 <= len(graph["objects"]) <= 29
        assert graph["relationships"] == []
        for o in graph["objects"]:
            assert o["object_id"] == f"{graph['image_id']}_{o['bbox_name']}"
            assert o["original_width"] == o["original_x2"] - o["original_x1"] > 0
            assert 0 <= o["x1"] <= o["x2"] <= 224
            assert 0 <= o["y1"] <= o["y2"] <= 224
        for a in graph["attributes"]:
            lists = (a["attributes"], a["phrase_IDs"], a["sections"], a["severity_cues"])
            assert all(len(x) == len(a["phrases"]) for x in lists)
            assert all(re.fullmatch(r"\w+\|(yes|no)\|[\w ]+", t) for x in a["attributes"] for t in x)
