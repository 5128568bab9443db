"""CANDID-PTX: three tables of run-length codes, reports and patients; to a batch, and damaged."""

import csv
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from medvlp.data.datamodule import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.candid_ptx import candid_ptx
from medvlp.prepare.splits import hash_split
from medvlp.prepared import Prepared
from medvlp.run_lengths import encode

UIDS = [f"2.25.{n}" for n in range(100, 108)]
SHAPE = (60, 50)


def square(y1, x1, y2, x2):
    mask = np.zeros(SHAPE, bool)
    mask[y1:y2, x1:x2] = True
    return encode(mask)


PARTS = [square(5, 6, 30, 20), square(40, 30, 55, 33)]
TUBE, FRACTURE = square(10, 10, 12, 40), square(50, 2, 58, 9)


class Raw:
    """Eight images of four patients: `UIDS[1]` has two pneumothoraces and a tube, `UIDS[3]` a tube, `UIDS[5]` all."""

    def __init__(self, root, dicom, write_csv):
        self.root, self.write_csv = root, write_csv
        self.tables = {
            "Pneumothorax_reports": ["filename", "SOPInstanceUID", "StudyInstanceUID", "EncodedPixels", "Report"],
            "chest_tube": ["anon_SOPUID", "annotation_ref", "mask_rle"],
            "acute_rib_fracture": ["anon_SOPUID", "annotation_ref", "mask_rle"],
        }
        self.rows = {
            "Pneumothorax_reports": [self.report(n, "-1") for n in range(8)],
            "chest_tube": [[UIDS[n], f"ref{n}", TUBE] for n in (1, 3, 5)] + [[UIDS[0], "ref0", "-1"]],
            "acute_rib_fracture": [[UIDS[5], "ref", FRACTURE]],
        }
        reports = self.rows["Pneumothorax_reports"]
        reports[1], reports[5] = self.report(1, PARTS[0]), self.report(5, PARTS[1])
        reports.append(self.report(1, PARTS[1]))
        (root / "dataset").mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
        for uid in UIDS:
            (root / "dataset" / uid).write_bytes(dicom(pixels))

    @staticmethod
    def report(number, code):
        return [
            f"P{number // 2:03d}_{number}",
            UIDS[number],
            f"1.{number // 2}",
            code,
            f"Report {number // 2} is normal.",
        ]

    def write(self, suffix=".csv"):
        for name, header in self.tables.items():
            self.write_csv(self.root / f"{name}{suffix}", header, self.rows[name])
        return self


@pytest.fixture
def raw(tmp_path, dicom, write_csv):
    return Raw(tmp_path / "candid", dicom, write_csv).write()


def run(raw, out, **options):
    candid_ptx(raw.root, out, **{"size": 60, "workers": 1, "regions": "none", **options})
    return Prepared.open(out)


def rows_of(prepared):
    return {row["image_id"]: row for row in prepared.index.to_pylist()}


def test_labels_boxes_masks_and_reports(raw, tmp_path, skipped):
    prepared = run(raw, tmp_path / "out")
    rows = rows_of(prepared)
    assert prepared.labels == ["Pneumothorax", "Chest Tube", "Rib Fracture"]
    labels = {uid: [rows[uid][f"label/{name}"] for name in prepared.labels] for uid in UIDS}
    expected = {1: [1, 1, 0], 3: [0, 1, 0], 5: [1, 1, 1]}
    assert labels == {uid: expected.get(n, [0, 0, 0]) for n, uid in enumerate(UIDS)}
    boxes = {
        uid: [(box["name"], box["x1"], box["y1"], box["x2"], box["y2"]) for box in rows[uid]["boxes"]] for uid in UIDS
    }
    # The square of 60 pixels has borders of 5.
    assert boxes[UIDS[1]] == [
        ("Pneumothorax", 11, 5, 25, 30), ("Pneumothorax", 35, 40, 38, 55), ("Chest Tube", 15, 10, 45, 12)
    ]  # fmt: skip
    assert [name for name, *_ in boxes[UIDS[5]]] == ["Pneumothorax", "Chest Tube", "Rib Fracture"]
    assert boxes[UIDS[0]] == []
    masks = np.load(tmp_path / "out/masks.npy")
    areas = {uid: round(float(masks[rows[uid]["row"]].sum() / 255)) for uid in UIDS}
    # Those of the pneumothoraces alone.
    assert {uid: area for uid, area in areas.items() if area} == {UIDS[1]: 25 * 14 + 15 * 3, UIDS[5]: 15 * 3}
    for number, uid in enumerate(UIDS):
        assert rows[uid]["impression"] == f"Report {number // 2} is normal."
        assert (rows[uid]["study_id"], rows[uid]["subject_id"]) == (f"1.{number // 2}", f"P{number // 2:03d}")
        assert rows[uid]["split"] == hash_split(f"P{number // 2:03d}")
    assert prepared.manifest["counts"]["studies"] == 4
    assert skipped(tmp_path / "out") == []


def test_the_phantom_to_a_batch(tmp_path):
    phantom(tmp_path / "p", studies=30, seed=5, size=64, workers=1, layouts="candid_ptx")
    prepared = run(SimpleNamespace(root=tmp_path / "p/candid-ptx"), tmp_path / "out")
    assert prepared.synthetic
    totals = [sum(prepared.index[f"label/{name}"].to_pylist()) for name in prepared.labels]
    assert totals[0] > 0 < totals[1]
    assert totals[2] == 0
    data = CXRDataModule(tmp_path / "out", batch_size=4, crop=32, num_workers=0, views=1, targets="mask")
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].shape == (4, 1, 32, 32)
    assert batch["label"].shape == (4, 3)


def test_names_of_tables_columns_and_folders(raw, tmp_path, folder_bytes):
    run(raw, tmp_path / "out")
    (raw.root / "acute_rib_fracture.csv").rename(raw.root / "Rib_fracture_mask_rle.csv")
    raw.tables["chest_tube"] = ["SOPInstanceUID", "annotation_ref", "EncodedPixels"]
    raw.tables["Pneumothorax_reports"][-1] = "report"
    raw.write(".csv.gz")
    for name in ("chest_tube.csv", "Pneumothorax_reports.csv", "acute_rib_fracture.csv.gz"):
        (raw.root / name).unlink()
    run(raw, tmp_path / "out2")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "out2")
    (raw.root / "dataset").rename(raw.root / "chest_radiographs")
    for path in (raw.root / "chest_radiographs").iterdir():
        path.rename(f"{path}.dcm")
    moved = run(raw, tmp_path / "out3").index
    assert moved["image_id"] == Prepared.open(tmp_path / "out").index["image_id"]


def test_without_columns_of_studies_and_patients(raw, tmp_path):
    """Each image then counts as a patient."""
    raw.tables["Pneumothorax_reports"] = ["x", "SOPInstanceUID", "y", "EncodedPixels", "Report"]
    prepared = run(raw.write(), tmp_path / "out")
    assert prepared.index["subject_id"].to_pylist() == prepared.index["study_id"].to_pylist() == UIDS


def test_images_of_a_study_with_other_reports(raw, tmp_path):
    raw.rows["Pneumothorax_reports"][2][-1] = "Something else is here."
    rows = rows_of(run(raw.write(), tmp_path / "out"))
    assert [rows[uid]["study_id"] for uid in UIDS[2:5]] == ["1.1", UIDS[3], "1.2"]
    assert rows[UIDS[2]]["impression"] == "Something else is here."
    assert rows[UIDS[3]]["impression"] == "Report 1 is normal."


def left_out(raw, out, skipped):
    """Return what is in skipped.csv, and the images that are not in the index."""
    rows = rows_of(run(raw.write(), out))
    return dict(skipped(out)), [n for n, uid in enumerate(UIDS) if uid not in rows]


def test_contradictions_and_unreadable_codes(raw, tmp_path, skipped):
    reports = raw.rows["Pneumothorax_reports"]
    reports += [raw.report(1, "-1"), raw.report(2, TUBE)]
    reports.append([*raw.report(0, "-1")[:4], "Another report of the same image."])
    reports[7][3] = ""
    raw.rows["chest_tube"] += [[UIDS[4], "ref", "12 ab"], [UIDS[6], "ref", "1 2 3000 9"]]
    news, images = left_out(raw, tmp_path / "out", skipped)
    assert images == [0, 1, 2, 4, 6, 7]
    assert news[UIDS[0]] == news[UIDS[1]] == news[UIDS[2]] == news[UIDS[7]] == "a row of it is unreadable"
    assert news["Pneumothorax_reports.csv:12"] == "unreadable row: contradicts one above it"
    assert news["Pneumothorax_reports.csv:9"] == "unreadable row: no run-length code"
    assert news[UIDS[4]] == "unreadable run-length code: no pairs of offset and length"
    assert news[UIDS[6]].startswith("unreadable run-length code: ends at pixel")


def test_duplicates_and_strangers(raw, tmp_path, skipped):
    clean = run(raw, tmp_path / "clean").index
    raw.rows["Pneumothorax_reports"].append(raw.report(1, PARTS[0]))
    raw.rows["chest_tube"] += [[UIDS[3], "ref9", TUBE], ["2.25.999", "ref", TUBE], ["", "ref", TUBE]]
    shutil.copy(raw.root / "dataset" / UIDS[0], raw.root / "dataset/2.25.777")
    prepared = run(raw.write(), tmp_path / "out")
    assert prepared.index.equals(clean)
    assert dict(skipped(tmp_path / "out")) == {
        "Pneumothorax_reports.csv:11": "duplicate id",
        "chest_tube.csv:6": "duplicate id",
        "chest_tube.csv:8": "unreadable row: no image",
        "2.25.999": "not in the table of reports",
        "2.25.777": "not in the table of reports",
    }


def test_images_and_reports_that_are_missing(raw, tmp_path, skipped):
    (raw.root / "dataset" / UIDS[2]).unlink()
    (raw.root / "dataset" / UIDS[4]).write_bytes((raw.root / "dataset" / UIDS[4]).read_bytes()[:-500])
    raw.rows["Pneumothorax_reports"][6][-1] = raw.rows["Pneumothorax_reports"][7][-1] = "None"
    news, images = left_out(raw, tmp_path / "out", skipped)
    assert images == [2, 4, 6, 7]
    assert news[UIDS[2]] == "missing file"
    assert news[UIDS[4]].startswith(("truncated image", "unreadable image"))
    assert news[UIDS[6]] == news[UIDS[7]] == "report has neither findings nor impression"


def test_codes_of_another_size(raw, tmp_path):
    for rows in raw.rows.values():
        for row in rows:
            row[:] = [
                encode(np.ones((100, 100), bool)) if field in (*PARTS, TUBE, FRACTURE) else field for field in row
            ]
    raw.rows["Pneumothorax_reports"].pop()
    rows = rows_of(run(raw.write(), tmp_path / "out", annotation_size=100))
    boxes = [(box["x1"], box["y1"], box["x2"], box["y2"]) for box in rows[UIDS[5]]["boxes"]]
    assert boxes == [(5, 0, 55, 60)] * 3
    with pytest.raises(UserError, match="annotation_size=0 must be at least 1"):
        run(raw, tmp_path / "out2", annotation_size=0)


@pytest.mark.parametrize("name", ["Pneumothorax_reports.csv", "chest_tube.csv", "acute_rib_fracture.csv", "dataset"])
def test_missing_files(raw, tmp_path, name):
    (raw.root / name).rename(tmp_path / "away")
    with pytest.raises(NotFoundError, match=rf"{name}.* Ask for CANDID-PTX"):
        run(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_are_read_as_csv_says(raw, tmp_path):
    """Reports have commas, quotes and line breaks."""
    raw.rows["Pneumothorax_reports"][0][-1] = raw.rows["Pneumothorax_reports"][1][-1] = 'No "real", I\nthink, change.'
    raw.rows["Pneumothorax_reports"][-1][-1] = raw.rows["Pneumothorax_reports"][0][-1]
    rows = rows_of(run(raw.write(), tmp_path / "out"))
    assert '"real"' in rows[UIDS[0]]["impression"]
    with (raw.root / "Pneumothorax_reports.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 10
