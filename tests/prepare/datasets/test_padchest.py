"""PadChest: labels, variants, views, 16 bits, and damaged rows."""

import shutil

import numpy as np
import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import NotFoundError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.padchest import padchest
from medvlp.prepare.layouts.padchest_labels import value_of, words
from medvlp.prepare.splits import hash_split
from medvlp.prepared import Prepared
from tests.support.raw import write_lines

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
ALL = "PA,AP,AP_HORIZONTAL,LATERAL,COSTAL"
HEADER = "ImageID,ImageDir,StudyID,PatientID,Projection,MethodLabel,Labels"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("padchest") / "phantom"
    phantom(out, studies=40, seed=1, size=64, workers=1, layouts="padchest")
    return out / "padchest"


def run(root, out, **options):
    padchest(root, out, **{"size": 32, "workers": 1, **options})
    return Prepared.open(out)


def make(root, image, rows):
    """Write a table, and an image for each of its rows that has none yet, flat."""
    root.mkdir(exist_ok=True)
    write_lines(root / TABLE, [HEADER, *rows])
    for row in rows:
        name = row.split(",")[0]
        if "/" not in name and name:
            (root / name).write_bytes(image)
    return root


def test_end_to_end(raw, tmp_path, skipped):
    prepared = run(raw, tmp_path / "out", views=ALL)
    rows = prepared.index.to_pylist()
    counts = prepared.manifest["counts"]
    unlabelled = [what for what, why in skipped(tmp_path / "out") if why == "no labels"]
    assert counts["table"] == len(rows) + len(unlabelled)
    assert {row["view"] for row in rows} == {"PA", "AP", "LATERAL"}
    assert {"pleural effusion", "nsg tube", "exclude"} < {*prepared.labels}
    assert "normal" not in prepared.labels
    assert prepared.synthetic
    # 16 bits of which the image uses a part fill the grey levels.
    assert all(np.ptp(image) > 150 for image in prepared.images)
    for row in rows:
        unfit = row["label/exclude"] or row["label/suboptimal study"]
        assert row["split"] == ("" if unfit else hash_split(row["subject_id"]))
        assert row["findings"] is row["impression"] is None
        assert row["order"] % 1_000_000 == 0 < row["order"]
    assert {row["split/physician"] for row in rows} == {"", "test"}
    assert run(raw, tmp_path / "frontal").manifest["counts"]["skipped"]["view LATERAL"] > 0
    data = CXRDataModule(prepared.root, batch_size=4, crop=28, num_workers=0)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["label"].shape == (4, len(prepared.labels))


def test_labels_of_physicians_and_the_rarest_of_them(tmp_path, jpeg):
    rows = [
        *(f"p{i}.png,0,{i},{i},PA,Physician,\"['common', ' rare{i:02d}']\"" for i in range(25)),
        "q.png,0,99,99,PA,Physician,\"['rare00', 'normal']\"",
        "r.png,0,98,98,PA,RNN_model,\"['machine', 'rare01', 'rare01']\"",
    ]
    root = make(tmp_path / "raw", jpeg(), rows)
    rare = [f"rare{i:02d}" for i in range(25)]
    assert run(root, tmp_path / "all").labels == ["common", "machine", *rare]
    prepared = run(root, tmp_path / "physician", labels="physician")
    assert prepared.labels == ["common", *rare]
    assert prepared.split_variants["physician"]["counts"] == {"train": 0, "validate": 0, "test": 26}
    assert prepared.split_variants["physician"]["documented"]["test"] == 39_053
    # Of 24 labels with one image the first 20; rare00 has two.
    assert run(root, tmp_path / "rarest", labels="padchest20").labels == rare[1:21]


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (["atelectasis"], 1),
        (["laminar atelectasis", "atelectasis"], 1),
        (["laminar atelectasis"], None),
        (["atelectasis basal", "paratelectasis"], 0),
        (["normal"], 0),
    ],
)
def test_a_narrower_term_says_nothing_of_a_label(found, value):
    assert value_of("atelectasis", found) == value


@pytest.mark.parametrize("place", ["{}", "images", "5", "images/5", "linked"])
def test_folders_of_images(tmp_path, jpeg, place):
    root = make(tmp_path / "raw", jpeg(), ["a.png,5,1,1,PA,Physician,['normal']"])
    folder = root / place
    if place == "linked":
        (tmp_path / "disk").mkdir()
        folder.symlink_to(tmp_path / "disk")
    folder.mkdir(parents=True, exist_ok=True)
    (root / "a.png").rename(folder / "a.png")
    make(root, jpeg(), ["a.png,5,1,1,PA,Physician,['x']"])
    (root / "a.png").unlink()
    assert len(run(root, tmp_path / "out").index) == 1


def test_damaged_rows(tmp_path, jpeg, skipped):
    rows = [
        "a.png,0,1,1,PA,Physician,\"['nodule', ' NODULE ', '']\"",
        "a.png,0,1,1,PA,Physician,['mass']",
        ",0,2,2,PA,Physician,['mass']",
        "b.png,0,,3,PA,Physician,['mass']",
        "c.png,0,4,4,PA,Physician,",
        "d.png,0,4,4,PA,Physician,[]",
        "e.png,0,5,5,,Physician,['mass']",
        "../secret.png,0,6,6,PA,Physician,['mass']",
        "gone/f.png,0,7,7,PA,Physician,['mass']",
        "g.png,0,8,8",
        "h.png,0,9,9,PA,RNN_model,['mass'",
    ]
    root = make(tmp_path / "raw", jpeg(), rows)
    (tmp_path / "secret.png").write_bytes(jpeg())
    (root / "h.png").write_bytes(jpeg()[:300])
    prepared = run(root, tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["a.png"]
    assert prepared.labels == ["mass", "nodule"]
    assert prepared.index["label/nodule"].to_pylist() == [1]
    found = dict(skipped(tmp_path / "out"))
    assert found.pop("h.png").startswith(("truncated image", "unreadable image"))
    assert found == {
        f"{TABLE}:3": "duplicate id",
        f"{TABLE}:4": "unreadable row: ImageID, StudyID or PatientID",
        f"{TABLE}:5": "unreadable row: ImageID, StudyID or PatientID",
        "c.png": "no labels",
        "d.png": "no labels",
        "e.png": "view not given",
        "../secret.png": "escapes root",
        "gone/f.png": "missing file",
        f"{TABLE}:11": "unreadable row: 4 fields, not 7",
    }
    assert prepared.manifest["counts"]["table"] == len(rows)


def test_archives_that_are_not_unpacked(raw, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    shutil.copy(raw / TABLE, root)
    with pytest.raises(NotFoundError, match=r"holds no folder of images\. Ask for PadChest"):
        run(root, tmp_path / "out")
    (root / "0.zip").touch()
    with pytest.raises(NotFoundError, match=r"no folder of images, but 0\.zip\. Unpack all of them\."):
        run(root, tmp_path / "out")
    (root / TABLE).rename(root / "labels.csv")
    with pytest.raises(NotFoundError, match=r"holds no PADCHEST_chest"):
        run(root, tmp_path / "out")


def test_lists_of_names():
    assert words("['pleural effusion', ' loc  basal', \"Chilaiditi's sign\"]") == [
        "pleural effusion",
        "loc basal",
        "chilaiditi's sign",
    ]
    assert words("") == words("[]") == words("nan") == []
