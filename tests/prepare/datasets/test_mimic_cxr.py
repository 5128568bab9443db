import os
import shutil
import zipfile

import numpy as np
import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import study
from medvlp.phantom.page import MIMIC
from medvlp.phantom.reports import report
from medvlp.prepare.datasets.mimic_cxr import mimic_cxr
from medvlp.prepared import Prepared


def run(raw, out, **options):
    options = {"size": 32, "workers": 1, "regions": "none", **options}
    mimic_cxr(images=raw.images, reports=raw.reports, out=out, **options)
    return Prepared.open(out)


def test_end_to_end(mimic, tmp_path, skipped):
    prepared = run(mimic, tmp_path / "out")
    rows = prepared.index.to_pylist()
    assert [row["image_id"] for row in rows] == ["a", "b", "d", "f"]
    assert [row["row"] for row in rows] == [0, 1, 2, 3]
    assert [row["split"] for row in rows] == ["train", "train", "validate", "test"]
    assert [row["study_id"] for row in rows] == ["50000001", "50000002", "50000003", "50000004"]
    assert rows[0]["subject_id"] == "10000032"
    assert rows[0]["path"] == "files/p10/p10000032/s50000001/a.jpg"
    assert (rows[0]["height"], rows[0]["width"]) == (60, 40)
    assert rows[0]["findings"].startswith("The heart is normal in size.")
    assert rows[0]["impression"] == "No acute cardiopulmonary process."
    assert prepared.labels == ["Atelectasis", "Cardiomegaly", "No Finding", "Pleural Effusion"]
    assert [rows[0][f"label/{name}"] for name in prepared.labels] == [None, 0, 1, None]
    assert [rows[1][f"label/{name}"] for name in prepared.labels] == [1, None, None, -1]
    assert rows[0]["regions"] is None
    assert prepared.images.shape == (4, 32, 32)
    assert prepared.images[0].std() > 10
    assert skipped(tmp_path / "out") == [("c", "view LATERAL"), ("e", "view LL")]
    counts = prepared.manifest["counts"]
    assert counts["table"] == 6
    assert counts["view"] == counts["decoded"] == 4
    assert counts["split"] == prepared.split_variants["official"]["counts"] == {"train": 2, "validate": 1, "test": 1}
    assert prepared.index["split/official"] == prepared.index["split"]
    assert prepared.masks is None
    assert prepared.index["boxes"].null_count == 4
    assert counts["sections_found"] == {"both": 4, "findings_only": 0, "impression_only": 0}
    files = ["images.npy", "index.parquet", "manifest.json", "skipped.csv", "triplets.parquet"]
    assert sorted(os.listdir(tmp_path / "out")) == files


def test_nothing_of_the_machine_in_the_output(mimic, tmp_path, folder_bytes):
    run(mimic, tmp_path / "out")
    moved = shutil.move(mimic.root, tmp_path / "elsewhere")
    mimic_cxr(moved / "jpg", moved / "reports/files", tmp_path / "again", regions="none", size=32, workers=1)
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "again")
    assert not any(str(tmp_path).encode() in content for content in folder_bytes(tmp_path / "out").values())


def test_zip_archives_equal_folders(mimic, tmp_path, zipped, folder_bytes):
    mimic.graph("a", [("spine", 10, 10, 20, 50)])
    run(mimic, tmp_path / "folder", scene_graphs=mimic.graphs)
    reports = zipped(mimic.reports / "files", tmp_path / "mimic-cxr-reports.zip")
    graphs = zipped(mimic.graphs / "silver_dataset/scene_graph", tmp_path / "scene_graph.zip")
    mimic_cxr(mimic.images, reports, tmp_path / "zip", graphs, size=32, workers=2)
    assert folder_bytes(tmp_path / "folder") == folder_bytes(tmp_path / "zip")


def test_member_of_archive_that_escapes(mimic, tmp_path, skipped):
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.write(mimic.report_path(10000032, 50000001), "files/p10/p10000032/s50000001.txt")
        archive.write(mimic.report_path(10000032, 50000002), "../p10/p10000032/s50000002.txt")
    mimic_cxr(mimic.images, tmp_path / "r.zip", tmp_path / "out", size=32, workers=1)
    assert Prepared.open(tmp_path / "out").index["image_id"].to_pylist() == ["a"]
    assert ("r.zip:../p10/p10000032/s50000002.txt", "escapes root") in skipped(tmp_path / "out")
    assert ("b", "no report") in skipped(tmp_path / "out")


def test_damaged_archive(mimic, tmp_path):
    (tmp_path / "r.zip").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(UserError, match=r"r\.zip.*not a readable zip"):
        mimic_cxr(mimic.images, tmp_path / "r.zip", tmp_path / "out")


def test_damaged_member(mimic, tmp_path, zipped, skipped):
    path = zipped(mimic.reports / "files", tmp_path / "r.zip")
    data = bytearray(path.read_bytes())
    data[80:90] = bytes(10)
    path.write_bytes(data)
    mimic_cxr(mimic.images, path, tmp_path / "out", size=32, workers=1)
    assert ("a", "unreadable report") in skipped(tmp_path / "out")


@pytest.mark.parametrize("labels", ["chexpert", "none"])
def test_labels(mimic, tmp_path, labels):
    prepared = run(mimic, tmp_path / "out", labels=labels)
    assert len(prepared.labels) == (4 if labels == "chexpert" else 0)


def test_views(mimic, tmp_path):
    assert run(mimic, tmp_path / "out", views="LATERAL, LL").index["image_id"].to_pylist() == ["c", "e"]


def test_missing_scene_graphs(mimic, tmp_path):
    mimic.graphs.rename(tmp_path / "away")
    with pytest.raises(NotFoundError, match=r"physionet\.org.*medvlp phantom") as error:
        run(mimic, tmp_path / "out", scene_graphs=mimic.graphs)
    assert f"--scene_graphs='{mimic.graphs}'" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_bad_rows(mimic, tmp_path, skipped):
    mimic.metadata += [
        ["only", "three", "fields"],
        ["g", "p12", "50000009", "", "PA", 1, 1],
        ["h", 12000000, 50000004, "", "PA", 1, 1],
    ]
    mimic.metadata.append(mimic.metadata[0])
    mimic.split += [["f", 50000004, 12000000, "train"], ["i", 1, 1, "training"]]
    mimic.labels += [[1, 2, "yes", "", "", ""], [1, "x", "", "", "", ""], mimic.labels[0]]
    prepared = run(mimic.tables(), tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["a", "b", "d", "f"]
    assert prepared.index["split"].to_pylist()[-1] == "test"
    found = dict(skipped(tmp_path / "out"))
    table = "mimic-cxr-2.0.0-{}.csv.gz:{}".format
    assert found[table("metadata", 8)] == "unreadable row: 3 fields, not 7"
    assert found[table("metadata", 9)] == "unreadable row: subject_id, study_id or dicom_id"
    assert found["h"] == "not in the split table"
    assert found[table("metadata", 11)] == "duplicate id"
    assert found[table("split", 8)] == "duplicate id"
    assert found[table("split", 9)] == "unreadable row: split 'training'"
    assert found[table("chexpert", 6)] == found[table("chexpert", 7)] == "unreadable row: a label or study_id"
    assert found[table("chexpert", 8)] == "duplicate id"
    counts = prepared.manifest["counts"]
    assert counts["table"] == 10
    assert counts["readable"] == 6
    # Every row of the table is an image of the index or in the list.
    left_out = [what for what in found if "split" not in what and "chexpert" not in what]
    assert counts["table"] == counts["decoded"] + len(left_out)


def test_bad_reports(empty_mimic, tmp_path, skipped):
    raw = empty_mimic
    raw.study(10000000, 1, {"latin": "PA"}, " FINDINGS: Temperature 38\u00b0 noted today.".encode("latin-1"))
    raw.study(10000000, 2, {"empty": "PA"}, " \n ")
    raw.study(10000000, 3, {"neither": "PA"}, " FINAL REPORT\n INDICATION: cough.\n\n The lungs are clear and well.")
    raw.study(10000000, 4, {"short": "PA"}, " IMPRESSION: Normal chest.")
    raw.study(10000000, 5, {"none": "PA"}, None)
    raw.study(10000000, 6, {"impression": "PA"}, " FINDINGS:  \n\n IMPRESSION: No change since yesterday.")
    prepared = run(raw.tables(), tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["latin", "impression"]
    assert prepared.index["findings"].to_pylist() == ["Temperature 38\u00b0 noted today.", None]
    assert prepared.index["impression"].to_pylist() == [None, "No change since yesterday."]
    assert skipped(tmp_path / "out") == [
        ("empty", "empty report"),
        ("neither", "report has neither findings nor impression"),
        ("short", "report has fewer than 3 words"),
        ("none", "no report"),
    ]
    counts = prepared.manifest["counts"]
    assert counts["reports_not_utf8"] == 1
    assert (counts["view"], counts["report"], counts["sections"], counts["min_words"]) == (6, 4, 3, 2)
    assert counts["sections_found"] == {"both": 0, "findings_only": 1, "impression_only": 2}


def test_bad_images(mimic, tmp_path, jpeg, skipped):
    mimic.image_path(10000032, 50000001, "a").write_bytes(jpeg()[:-200])
    mimic.image_path(10000032, 50000002, "b").write_bytes(b"")
    mimic.image_path(11000000, 50000003, "d").unlink()
    prepared = run(mimic, tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["f"]
    assert prepared.index["row"].to_pylist() == [3]
    assert not prepared.images[:3].any()
    assert skipped(tmp_path / "out")[2:] == [("a", "truncated image"), ("b", "empty file"), ("d", "missing file")]
    assert prepared.manifest["counts"]["min_words"] == 4
    assert prepared.manifest["counts"]["decoded"] == 1


def test_paths_that_escape(mimic, tmp_path, jpeg, skipped):
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    mimic.study(12000000, 50000005, {"../../../../../../secret": "PA"})
    link = mimic.image_path(10000032, 50000001, "a")
    link.unlink()
    link.symlink_to(tmp_path / "secret.jpg")
    report = mimic.report_path(11000000, 50000003)
    report.rename(tmp_path / "report.txt")
    report.symlink_to(tmp_path / "report.txt")
    prepared = run(mimic.tables(), tmp_path / "out")
    assert prepared.index["image_id"].to_pylist() == ["b", "f"]
    found = dict(skipped(tmp_path / "out"))
    assert found["../../../../../../secret"] == "escapes root"
    assert found["a"] == "escapes root"
    assert found["d"] == "report escapes root"


def test_files_may_be_a_link(mimic, tmp_path):
    (mimic.images / "files").rename(tmp_path / "disk")
    (mimic.images / "files").symlink_to(tmp_path / "disk")
    assert run(mimic, tmp_path / "out").manifest["counts"]["decoded"] == 4


def test_regions(mimic, tmp_path, skipped):
    mimic.graph(
        "a",
        [
            ("spine", 10, 30, 20, 60),
            ("left lung", -5, 0, 20, 70),
            ("spine", 15, 0, 25, 10),
            ("outside", 40, 0, 50, 10),
            ("flat", 3, 3, 3, 9),
            ("text", "x", 3, 3, 9),
            ("nan", float("nan"), 3, 3, 9),
        ],
    )
    mimic.graph("b", "{not json")
    mimic.graph("d", [])
    prepared = run(mimic, tmp_path / "out", size=30, scene_graphs=mimic.graphs)
    # 60x40 becomes 30x20 with 5 pixels of padding on the left.
    assert prepared.index["regions"].to_pylist() == [
        [
            {"name": "spine", "x1": 10, "y1": 0, "x2": 17.5, "y2": 30},
            {"name": "left lung", "x1": 5, "y1": 0, "x2": 15, "y2": 30},
        ],
        None,
        [],
        None,
    ]
    found = skipped(tmp_path / "out")[2:]
    assert found == [
        ("a/outside", "box outside the image"),
        ("a/flat", "empty box"),
        ("a/text", "unreadable box"),
        ("a/nan", "unreadable box"),
        ("regions of b", "unreadable scene graph"),
        ("regions of f", "no scene graph"),
    ]
    counts = prepared.manifest["counts"]
    assert (counts["with_regions"], counts["regions"]) == (2, 2)


def test_box_follows_the_image(mimic, tmp_path):
    from PIL import Image

    pixels = np.zeros((300, 200), np.uint8)
    pixels[60:120, 50:80] = 255
    for resize in ("pad", "squash"):
        Image.fromarray(pixels).save(mimic.image_path(10000032, 50000001, "a"), quality=95)
        mimic.graph("a", [("carina", 50, 60, 80, 120)])
        prepared = run(mimic, tmp_path / resize, size=96, resize=resize, scene_graphs=mimic.graphs)
        box = prepared.index["regions"][0][0].as_py()
        bright = prepared.images[0] > 127
        ys, xs = np.nonzero(bright)
        assert np.allclose(
            [box["x1"], box["y1"], box["x2"], box["y2"]], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1
        )


def test_nothing_left(mimic, tmp_path):
    with pytest.raises(UserError, match=r"No image is left.*table 6, readable 6, view 0.*view AP \(2\)"):
        run(mimic, tmp_path / "out", views="PAA")
    shutil.rmtree(mimic.images / "files")
    (mimic.images / "files").mkdir()
    with pytest.raises(UserError, match=r"No image is left.*decoded 0.*missing file \(4\)"):
        run(mimic, tmp_path / "out")
    mimic.study(13000000, 50000009, {"new": "PA"})
    assert run(mimic.tables(), tmp_path / "out").index["image_id"].to_pylist() == ["new"]


@pytest.mark.parametrize("option", [{"min_words": -1}, {"views": " , "}])
def test_options_out_of_range(mimic, tmp_path, option):
    with pytest.raises(UserError, match="at least 1"):
        run(mimic, tmp_path / "out", **option)


def test_manifest_hashes(mimic, tmp_path):
    import hashlib

    prepared = run(mimic, tmp_path / "out")
    digests = prepared.manifest["sha256"]
    assert digests["index.parquet"] == hashlib.sha256((tmp_path / "out/index.parquet").read_bytes()).hexdigest()
    chunk = hashlib.sha256(prepared.images[:].tobytes()).digest()
    assert digests["images.npy"] == {"rows": 32, "sha256_of_sha256": hashlib.sha256(chunk).hexdigest()}


# As MIT-LCP's section_parser reads them, all are Findings.
HEADERS = (
    "FINDINGS (CHEST)",
    "PRELIMINARY FINDINGS",
    "FINDGINGS",
    "CHEST",
    "CHEST, TWO VIEWS",
    "CHEST PA AND LATERAL",
    "CHEST RADIOGRAPHS",
    "CHEST (PORTABLE AP)",
    "PORTABLE AP CHEST",
    "PORTABLE UPRIGHT RADIOGRAPH",
    "AP UPRIGHT PORTABLE CHEST RADIOGRAPH",
    "PA AND LATERAL VIEWS OF THE CHEST",
    "PA AND LAT",
    "LATERAL AND PA VIEWS",
    "AP AND LATERAL RADIOGRAPHS",
    "LATERAL AND AP VIEWS",
    "FRONTAL AND LATERAL RADIOGRAPHS",
    "UPRIGHT AP AND LATERAL, TWO VIEWS",
    "FRONTAL VIEW",
    "SINGLE FRONTAL VIEW OF THE CHEST",
    "PA VIEW",
    "AP VIEW",
    "ONE VIEW",
    "LATERAL VIEW",
    "BONE WINDOWS",
    "FRONTAL UPRIGHT RADIOGRAPH",
    "FRONTAL SEMI-UPRIGHT RADIOGRAPH",
    "LEFT RIBS",
)


def phantom_reports(count):
    """Return reports of the phantom in the style of MIMIC-CXR that have Findings and Impression."""
    reports = (report(one) for patient in study.patients(5, 1000) for one in study.sample(5, *patient))
    whole = [r for r in reports if {s.section for s in r.sentences} == {"findings", "impression"}]
    return [r for r in whole if "\n FINDINGS:\n" in r.text][:count]


def test_official_headers_on_reports_of_the_phantom(empty_mimic, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("medvlp.phantom.reports.style_of", lambda _: MIMIC)
    raw = empty_mimic
    reports = phantom_reports(len(HEADERS) + 2)
    for number, (header, one) in enumerate(zip(HEADERS, reports, strict=False)):
        raw.study(10000000, number, {f"i{number:02}": "PA"}, one.text.replace("\n FINDINGS:", f"\n {header}:"))
    lost, alone = reports[-2:]
    raw.study(10000000, 90, {"i90": "PA"}, lost.text.replace("\n FINDINGS:", "\n GESTALT:"))
    raw.study(10000000, 91, {"i91": "PA"}, alone.text[: alone.text.rindex("\n \n")])
    prepared = run(raw.tables(), tmp_path / "out")
    rows = prepared.index.to_pylist()
    assert len(rows) == len(HEADERS) + 2
    for row, one in zip(rows, reports, strict=True):
        for section in ("findings", "impression"):
            words = [word for s in one.sentences if s.section == section for word in s.text.split()]
            expected = words if (row["image_id"], section) not in {("i90", "findings"), ("i91", "impression")} else []
            # A header such as RIBS names what its first sentence is about.
            text = (row[section] or "").split(": ")[-1] if section == "findings" else row[section]
            assert [word for word in (text or "").split() if word not in ("1.", "2.", "3.", "4.", "5.")] == expected
    counts = prepared.manifest["counts"]
    assert counts["reports"] == {"read": len(HEADERS) + 2, "without_findings": 1, "without_impression": 1}
    assert counts["headers"]["findings"] == {
        "count": len(HEADERS) + 1,
        "commonest": {name: 1 for name in sorted([*HEADERS, "FINDINGS"])},
    }
    assert counts["headers"]["none"] == {"count": 1, "commonest": {"GESTALT": 1}}
    screen = " ".join(capsys.readouterr().out.split())
    assert "GESTALT 1" in screen
    assert "30 reports, 1 of them without Findings, 1 without Impression" in screen


def test_capital_headers_of_organs_stay_in_findings(empty_mimic, tmp_path):
    raw = empty_mimic
    text = "FINDINGS:\nLUNGS: Clear.\nPLEURA: Small left effusion.\nIMPRESSION: Small effusion."
    raw.study(10000000, 1, {"a": "PA"}, text)
    raw.study(10000000, 2, {"b": "PA"}, text.encode("utf-16"))
    rows = run(raw.tables(), tmp_path / "out").index.to_pylist()
    for row in rows:
        assert row["findings"] == "LUNGS: Clear.\nPLEURA: Small left effusion."
        assert row["impression"] == "Small effusion."
