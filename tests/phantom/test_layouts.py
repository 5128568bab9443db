"""Layouts together: which are written, the same bytes every time, and every class often enough."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from medvlp.errors import UserError
from medvlp.phantom import phantom, study
from medvlp.phantom.layouts import NAMES, covidx, layout, nih
from medvlp.phantom.world import DEVICES
from medvlp.prepared import SYNTHETIC

pytestmark = pytest.mark.slow

FOLDERS = {
    "mimic_cxr": "mimic-cxr-jpg/2.0.0",
    "chexpert": "CheXpert-v1.0-small",
    "nih": "nih",
    "rsna": "rsna",
    "siim": "siim",
    "covidx": "covidx",
    "object_cxr": "object-cxr",
    "ms_cxr": "ms-cxr/1.1.0",
    "vindr": "vindr",
    "chestx_det10": "chestx-det10",
    "chexlocalize": "chexlocalize",
    "chexpert_plus": "chexpert_plus",
    "taix_ray": "taix_ray",
    "open_i": "open-i",
    "padchest": "padchest",
    "padchest_gr": "padchest-gr",
    "mimic_cxr_dicom": "mimic-cxr/2.1.0",
    "rexgradient": "rexgradient",
    "candid_ptx": "candid-ptx",
}
# Further folders of layouts that have several.
MORE = ["open-i-official"]


def digest(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_layout_is_marked_as_synthetic(layouts) -> None:
    assert set(NAMES) == set(FOLDERS)
    assert {p.parent for p in layouts.root.rglob(SYNTHETIC)} == {layouts.root / f for f in (*FOLDERS.values(), *MORE)}


def test_workers_change_nothing(layouts, tmp_path) -> None:
    phantom(tmp_path / "p", studies=layouts.studies, seed=layouts.seed, size=layouts.size, workers=2, layouts="all")
    assert digest(tmp_path / "p") == digest(layouts.root)


def test_a_layout_does_not_depend_on_the_others(layouts, tmp_path) -> None:
    """The default call writes what it wrote before there were other layouts."""
    whole = digest(layouts.root)
    phantom(tmp_path / "default", studies=layouts.studies, seed=layouts.seed, size=layouts.size, workers=1)
    alone = digest(tmp_path / "default")
    mark = alone.pop("phantom.json")
    assert mark != whole["phantom.json"]
    assert {name.split("/")[0] for name in alone} == {"chest-imagenome", "mimic-cxr-jpg", "mimic-cxr-reports", "truth"}
    assert all(whole[name] == alone[name] for name in alone)
    phantom(tmp_path / "two", studies=5, seed=layouts.seed, size=layouts.size, workers=1, layouts="siim, covidx")
    two = digest(tmp_path / "two")
    assert {name.split("/")[0] for name in two} == {"phantom.json", "siim", "covidx", "truth"}
    images = {name for name in two if name.endswith((".dcm", ".png"))}
    assert len(images) > 10
    assert all(whole[name] == two[name] for name in images)


def test_the_mark_holds_the_layouts(tmp_path) -> None:
    make = {"studies": 2, "size": 64, "workers": 1}
    phantom(tmp_path / "old", **make)
    assert json.loads((tmp_path / "old/phantom.json").read_text()) == {
        "version": 1,
        "studies": 2,
        "seed": 0,
        "size": 64,
    }
    phantom(tmp_path / "old", **make, layouts="mimic_cxr")
    with pytest.raises(UserError, match="another phantom"):
        phantom(tmp_path / "old", **make, layouts="mimic_cxr,rsna")
    phantom(tmp_path / "new", **make, layouts="siim,rsna")
    assert json.loads((tmp_path / "new/phantom.json").read_text())["layouts"] == ["rsna", "siim"]
    whole = digest(tmp_path / "new")
    next((tmp_path / "new").rglob("*.dcm")).unlink()
    (tmp_path / "new/siim/train-rle.csv").unlink()
    phantom(tmp_path / "new", **make, layouts="rsna,siim")
    assert digest(tmp_path / "new") == whole
    with pytest.raises(UserError, match="another phantom"):
        phantom(tmp_path / "new", **make)
    # Phrases come with their images.
    phantom(tmp_path / "phrases", **make, layouts="ms_cxr")
    assert json.loads((tmp_path / "phrases/phantom.json").read_text())["layouts"] == ["mimic_cxr", "ms_cxr"]
    assert {name.split("/")[0] for name in digest(tmp_path / "phrases")} >= {"mimic-cxr-jpg", "ms-cxr"}


def test_unknown_layouts(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no layout 'chexprt'\. Did you mean 'chexpert'\?"):
        phantom(tmp_path / "p", layouts="nih,chexprt")
    with pytest.raises(UserError, match="There are: mimic_cxr"):
        phantom(tmp_path / "p", layouts="")
    assert not (tmp_path / "p").exists()


def test_every_layout_has_its_table_headers_even_without_rows(tmp_path) -> None:
    for name in NAMES:
        for table in layout(name).begin(tmp_path).values():
            with table:
                pass
    assert (tmp_path / "siim/train-rle.csv").read_text() == "ImageId, EncodedPixels\n"
    assert (tmp_path / "covidx/test_COVIDx9A.txt").read_text() == ""
    assert (tmp_path / "chestx-det10/test.json").read_text() == "[]\n"


def test_every_class_is_there_in_a_thousand_studies() -> None:
    seen: Counter[str] = Counter()
    for patient in study.patients(0, 1000):
        for one in study.sample(0, *patient):
            names = {f.name for f in one.findings}
            # Patients of the test split, and the others.
            part = one.split == "test"
            seen.update(("nih", part, nih.label(f)) for f in one.findings if f.name not in DEVICES)
            seen["covidx", part, covidx.diagnosis(one.findings)] += 1
            seen["siim", part, "pneumothorax" in names] += 1
            kind = "Lung Opacity" if "consolidation" in names else "Normal" if names <= DEVICES else "Not Normal"
            seen["rsna", part, kind] += 1
    drawn = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Infiltration", "Mass", "Nodule"}
    drawn |= {"Pneumonia", "Pneumothorax"}
    wanted = [("nih", name) for name in drawn]
    wanted += [("covidx", name) for name in ("normal", "pneumonia", "COVID-19", None)]
    wanted += [("siim", True), ("siim", False)]
    wanted += [("rsna", name) for name in ("Lung Opacity", "Normal", "Not Normal")]
    assert {(name, kind) for name, _, kind in seen} == set(wanted)
    assert all(seen[name, True, kind] >= 5 and seen[name, False, kind] >= 20 for name, kind in wanted), seen
