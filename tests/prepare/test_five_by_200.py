"""5x200: what is drawn, from whom, and what becomes of the other images of its patients."""

import numpy as np

from medvlp.prepare.datasets.chexpert import LABELS
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepare.five_by_200 import CLASSES, candidates, draw
from medvlp.prepared import Prepared
from tests.prepare.conftest import write_csv

EFFUSION, PLAIN = {"Pleural Effusion": 1}, {}


def test_candidates():
    def found(**values):
        values = {name.replace("_", " "): value for name, value in values.items()}
        alone = candidates([("image", [values.get(name) for name in LABELS])], LABELS)
        assert list(alone) == list(CLASSES)
        return [name for name, images in alone.items() if images]

    assert found(Edema=1) == ["Edema"]
    assert found(Pleural_Effusion=1, No_Finding=1, Fracture=0) == ["Pleural Effusion"]
    assert found(Edema=1, Consolidation=1) == []
    assert found(Edema=1, Consolidation=-1) == []
    assert found(Edema=1, Support_Devices=1) == []
    assert found(Edema=-1) == found(Pneumonia=1) == found() == []


def test_draw():
    alone = {"a": [f"a{i}" for i in range(500)], "b": ["b0", "b1"]}
    first = np.random.RandomState(0).permutation(500)[:200]
    assert draw(alone) == {"b0", "b1"} | {f"a{i}" for i in first}
    assert draw({"a": []}) == set()


def add(raw, subject, study, images, split="train", labels=PLAIN, **options):
    raw.study(subject, study, images, split=split, **options)
    raw.labels[-1] = [subject, study, *(f"{labels[name]:.1f}" if name in labels else "" for name in LABELS)]


def write(raw):
    raw.tables()
    write_csv(raw.images / "mimic-cxr-2.0.0-chexpert.csv.gz", ["subject_id", "study_id", *LABELS], raw.labels)
    return raw


def splits(raw, out, **options):
    mimic_cxr(raw.images, raw.reports, out, size=16, workers=1, regions="none", **options)
    prepared = Prepared.open(out)
    names = ("image_id", "split/official", "split/5x200")
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    # The same in the order of the index, whatever was drawn.
    assert list(rows) == sorted(rows, key=lambda name: (rows[name]["subject_id"], rows[name]["study_id"], name))
    assert prepared.index["split"] == prepared.index["split/official"]
    assert [*prepared.split_variants] == ["official", "5x200"]
    return {row["image_id"]: tuple(row[name] for name in names[1:]) for row in rows.values()}


def test_images_with_a_report_are_drawn(empty_mimic, tmp_path):
    raw = empty_mimic
    add(raw, 10000001, 50000001, {"a": "PA", "a_side": "LATERAL"}, labels=EFFUSION)
    add(raw, 10000001, 50000002, {"b": "AP"})
    add(raw, 10000002, 50000003, {"c": "PA"}, labels=EFFUSION, report=None)
    add(raw, 10000002, 50000004, {"d": "PA"}, labels=EFFUSION, report=" INDICATION: cough.")
    add(raw, 10000002, 50000005, {"e": "PA"}, labels=EFFUSION, report=" IMPRESSION: Normal.")
    add(raw, 10000002, 50000006, {"f": "PA"}, labels={"Pleural Effusion": 1, "Fracture": -1})
    add(raw, 10000003, 50000007, {"g": "PA"}, split="validate", labels={"Edema": 1, "Fracture": 0})
    add(raw, 10000004, 50000008, {"h": "PA"}, split="validate", labels={"Pneumonia": 1})
    add(raw, 10000005, 50000009, {"i": "PA"}, split="test")
    add(raw, 10000006, 50000010, {"j": "AP"}, split="test", labels={"Atelectasis": 1})
    assert splits(write(raw), tmp_path / "out") == {
        "a": ("train", "test"),
        "b": ("train", ""),
        "f": ("train", "train"),
        "g": ("validate", "test"),
        "h": ("validate", "validate"),
        "i": ("test", ""),
        "j": ("test", "test"),
    }
    lateral = splits(raw, tmp_path / "lateral", views="PA,AP,LATERAL")
    assert lateral["a_side"] == ("train", "")
    # A report too short for the index is too short for the draw, too.
    assert splits(raw, tmp_path / "all", min_words=0)["e"] == ("train", "test")


def test_200_are_drawn_by_image(empty_mimic, tmp_path):
    raw = empty_mimic
    for i in range(130):
        labels = EFFUSION if i < 120 else PLAIN
        add(raw, 10000000 + i, 50000000 + i, {f"{i:03}x": "PA", f"{i:03}y": "AP"}, labels=labels)
    found = splits(write(raw), tmp_path / "out")
    alone = [f"{i:03}{letter}" for i in range(120) for letter in "xy"]
    drawn = {alone[position] for position in np.random.RandomState(0).choice(240, 200, replace=False)}
    assert {name for name, (_, split) in found.items() if split == "test"} == drawn
    patients = {name[:3] for name in drawn}
    for name, (_, split) in found.items():
        if name not in drawn:
            assert split == ("" if name[:3] in patients else "train")
    reports = Prepared.open(tmp_path / "out")
    assert len(reports.index["study_id"].unique()) == 130


def test_without_the_labels_there_is_no_5x200(mimic, tmp_path):
    mimic_cxr(mimic.images, mimic.reports, tmp_path / "out", size=16, workers=1, regions="none", labels="none")
    assert [*Prepared.open(tmp_path / "out").split_variants] == ["official"]
