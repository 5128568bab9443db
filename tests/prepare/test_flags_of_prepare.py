"""Flags in a prepared folder: column, counts, and images that they leave out."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medvlp.errors import UserError
from medvlp.phantom.images import image as draw
from medvlp.phantom.study import patients, sample
from medvlp.prepare.datasets.nih import nih
from medvlp.prepare.datasets.open_i import open_i
from medvlp.prepared import INDEX, MANIFEST, Prepared

RADIOGRAPHS = sorted(Path(__file__).with_name("radiographs").glob("*.jpg"))


def chest(number=0):
    return Image.open(RADIOGRAPHS[number]).convert("L").resize((400, 300))


def lateral():
    shots = ((study, shot) for patient in patients(0, 20) for study in sample(0, *patient) for shot in study.shots)
    return Image.fromarray(next(draw(study, shot, 300).pixels for study, shot in shots if shot.view == "LATERAL"))


@pytest.fixture
def raw(tmp_path):
    """Four studies in the layout of Open-I: two frontal radiographs, a negative, and a lateral view called frontal."""
    root = tmp_path / "raw"
    (root / "images").mkdir(parents=True)
    negative = Image.fromarray(255 - np.asarray(chest(1)))
    with (root / "indiana_reports.csv").open("w") as reports, (root / "indiana_projections.csv").open("w") as table:
        csv.writer(reports).writerow(["uid", "MeSH", "Problems", "findings", "impression"])
        csv.writer(table).writerow(["uid", "filename", "projection"])
        for uid, picture in enumerate((chest(0), negative, lateral(), chest(1))):
            picture.save(root / "images" / f"{uid}.png")
            csv.writer(reports).writerow([uid, "normal", "normal", "The heart is normal in size.", ""])
            csv.writer(table).writerow([uid, f"{uid}.png", "Frontal"])
    return root


def test_flags_are_counted_and_written(raw, tmp_path, capsys):
    open_i(raw, tmp_path / "out", workers=1)
    index = pq.read_table(tmp_path / "out" / INDEX)
    assert dict(zip(index["image_id"].to_pylist(), index["flags"].to_pylist(), strict=True)) == {
        "0.png": "",
        "1.png": "inverted",
        "2.png": "lateral",
        "3.png": "",
    }
    counts = json.loads((tmp_path / "out" / MANIFEST).read_text())["counts"]
    assert counts["flags"] == {"inverted": 1, "lateral": 1}
    assert counts["skipped"] == {"no lung fields found": 2}
    screen = capsys.readouterr().out
    assert "--leave_out" in screen
    assert "1  inverted: air is bright in it and bone is dark" in screen


def test_flags_leave_images_out(raw, tmp_path, capsys):
    open_i(raw, tmp_path / "out", leave_out="lateral,inverted", workers=1)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["0.png", "3.png"]
    counts = prepared.manifest["counts"]
    assert counts["decoded"] == 2
    assert counts["flags"] == {}
    assert counts["skipped"] == {"flagged inverted": 1, "flagged lateral": 1}
    assert prepared.manifest["options"]["leave_out"] == ["inverted", "lateral"]
    skipped = [*csv.reader((tmp_path / "out/skipped.csv").open())]
    assert ["1.png", "flagged inverted: air is bright in it and bone is dark"] in skipped
    assert prepared.images[prepared.index["row"].to_pylist()[0]].max() > 0
    assert "flagged lateral" in capsys.readouterr().out


def test_regions_or_none_make_no_difference(raw, tmp_path):
    found = []
    for regions in ("automatic", "none"):
        open_i(raw, tmp_path / regions, regions=regions, workers=1)
        found.append(pq.read_table(tmp_path / regions / INDEX)["flags"].to_pylist())
    assert found[0] == found[1]


def test_a_wrong_flag_is_an_error_before_anything_is_written(raw, tmp_path):
    with pytest.raises(UserError, match="--leave_out names no flag 'sideways'"):
        open_i(raw, tmp_path / "out", leave_out="sideways")
    assert not (tmp_path / "out").exists()


def test_folders_from_before_the_flags(raw, tmp_path, capsys):
    out = tmp_path / "out"
    open_i(raw, out, workers=1)
    table = pq.read_table(out / INDEX)
    pq.write_table(table.drop_columns("flags"), out / INDEX)
    manifest = json.loads((out / MANIFEST).read_text())
    assert "leave_out" not in manifest["options"]
    del manifest["counts"]["flags"], manifest["versions"]["screening"]
    (out / MANIFEST).write_text(json.dumps(manifest))
    assert Prepared.open(out).of_splits(["train", "validate", "test"]).num_rows == 4
    open_i(raw, out, workers=1)
    assert "is complete" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"leave_out is None there and \['lateral'\] now"):
        open_i(raw, out, leave_out="lateral", workers=1)


def test_other_front_ends_have_the_option(tmp_path):
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    names = ["00000001_000.png", "00000001_001.png"]
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    rows = [f"{name},No Finding,{number},1,58,M,PA,2682,2749,0.143,0.143" for number, name in enumerate(names)]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([header, *rows]))
    (root / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n")
    (root / "train_val_list.txt").write_text("\n".join(names))
    (root / "test_list.txt").write_text("")
    chest().save(root / "images" / names[0])
    chest().rotate(90, expand=True).save(root / "images" / names[1])
    nih(root, tmp_path / "out", leave_out="turned", workers=1)
    counts = Prepared.open(tmp_path / "out").manifest["counts"]
    assert counts["decoded"] == 1
    assert counts["skipped"] == {"flagged turned": 1}
