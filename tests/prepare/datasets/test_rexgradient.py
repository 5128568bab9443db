"""ReXGradient-160K: views, texts and splits from its metadata; its tree and its archive, and damage to both."""

import json
import shutil
from collections import Counter

import pytest

from medvlp.data.datamodule import CXRDataModule
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare import entries
from medvlp.prepare.datasets.rexgradient import ReXGradient, rexgradient
from medvlp.prepare.entries import read_entries
from medvlp.prepare.words import read_view
from medvlp.prepared import Prepared
from tests.support.archives import NAME, cut, tar, tree_members, zstd

TOLD = ("FRONTAL", "LATERAL")
FILES = {"train": "train", "validate": "valid", "test": "test"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    phantom(out / "p", studies=24, seed=3, size=64, workers=1, layouts="rexgradient")
    return out / "p/rexgradient"


@pytest.fixture
def raw(made, tmp_path):
    return Raw(shutil.copytree(made, tmp_path / "raw"))


class Raw:
    """The unpacked data set, and its metadata by split."""

    def __init__(self, root):
        self.root = root
        self.metadata = {split: json.loads(self.path(split).read_text()) for split in FILES}

    def path(self, split):
        return self.root / f"metadata/{FILES[split]}_metadata_view_position.json"

    def write(self):
        for split, content in self.metadata.items():
            self.path(split).write_text(json.dumps(content, indent=4))

    def studies(self):
        return {key: entry for content in self.metadata.values() for key, entry in content.items()}

    def pack(self):
        """Put the archive in the place of the tree."""
        cut(zstd(tar(tree_members(self.root))), self.root)
        shutil.rmtree(self.root / NAME)


def run(raw, out, **options):
    rexgradient(raw.root, out, **{"size": 32, "workers": 1, "regions": "none", "min_words": 0, **options})
    return Prepared.open(out)


def test_rows_are_those_of_the_metadata(raw, tmp_path, skipped):
    views = "PA,AP,FRONTAL,LATERAL"
    prepared = run(raw, tmp_path / "out", views=views)
    rows = {row["image_id"]: row for row in prepared.index.to_pylist()}
    assert not skipped(tmp_path / "out") or {reason for _, reason in skipped(tmp_path / "out")} == {
        "report has neither findings nor impression"
    }
    for split, content in raw.metadata.items():
        for key, entry in content.items():
            for path, view in zip(entry["ImagePath"], entry["ImageViewPosition"], strict=True):
                row = rows.pop(path.rpartition("/")[2].removesuffix(".png"))
                assert (row["split"], row["study_id"], row["subject_id"]) == (split, key, entry["PatientID"])
                assert row["view"] == read_view(view or "") or (read_view(view or "") is None and row["view"] in TOLD)
                assert f"../{row['path']}" == path
                for name in ("Findings", "Impression"):
                    assert (row[name.lower()] is None) == (entry[name] == "None")
    assert not rows
    assert prepared.labels == []
    assert prepared.synthetic


def test_views(raw, tmp_path, skipped):
    spellings = ["POSTERO_ANTERIOR", "ap", "LL", "AP (KUB)", None, "N/A", "LAO", "UNKNOWN"]
    assert [read_view(view or "") for view in spellings] == [
        "PA",
        "AP",
        "LATERAL",
        "AP (KUB)",
        None,
        None,
        "OBLIQUE",
        None,
    ]
    for entry, view in zip(raw.studies().values(), spellings, strict=False):
        entry["ImageViewPosition"] = [view] * len(entry["ImagePath"])
    raw.write()
    prepared = run(raw, tmp_path / "out")
    reasons = {reason for _, reason in skipped(tmp_path / "out")}
    assert {"view LATERAL", "view AP (KUB)", "view OBLIQUE"} <= reasons
    # Of the images without a view, the screening tells it.
    views = [read_view(view or "") for entry in raw.studies().values() for view in entry["ImageViewPosition"]]
    lateral = sum(reason == "view LATERAL: told by the screening" for _, reason in skipped(tmp_path / "out"))
    counts = Counter(prepared.index["view"].to_pylist())
    assert counts.keys() <= {"PA", "AP", "FRONTAL"}
    assert prepared.manifest["counts"]["views_to_tell"] == views.count(None)
    # Some have no report.
    assert 0 < counts["FRONTAL"] + lateral <= views.count(None)


def test_texts_that_are_none(raw, tmp_path, skipped):
    (first, one), (second, two), (third, three), *_ = raw.metadata["train"].items()
    one |= {"Findings": "None", "Impression": "No change."}
    two |= {"Findings": None, "Impression": "none."}
    three |= {"Findings": "  Clear lungs. ", "Impression": float("nan")}
    raw.write()
    prepared = run(raw, tmp_path / "out", views="PA,AP,FRONTAL,LATERAL")
    texts = {row["study_id"]: (row["findings"], row["impression"]) for row in prepared.index.to_pylist()}
    assert texts[first] == (None, "No change.")
    assert second not in texts
    assert texts[third] == ("Clear lungs.", None)
    left_out = {name for name, reason in skipped(tmp_path / "out") if reason.startswith("report has neither")}
    assert {path.rpartition("/")[2].removesuffix(".png") for path in two["ImagePath"]} <= left_out


def test_from_the_archive_to_a_batch(raw, tmp_path, folder_bytes):
    run(raw, tmp_path / "tree", views="PA,AP,FRONTAL,LATERAL")
    raw.pack()
    run(raw, tmp_path / "stream", views="PA,AP,FRONTAL,LATERAL")
    assert folder_bytes(tmp_path / "tree") == folder_bytes(tmp_path / "stream")
    batch = next(iter(CXRDataModule(tmp_path / "stream", batch_size=4, crop=32, num_workers=0).train_dataloader()))
    assert len(batch["index"]) == 4
    assert batch["label"].shape == (4, 0)


def test_the_content_may_lie_in_download(raw, tmp_path, folder_bytes):
    run(raw, tmp_path / "out")
    raw.pack()
    (raw.root / "download").mkdir()
    for path in [raw.root / "metadata", *raw.root.glob(f"{NAME}.part*")]:
        path.rename(raw.root / "download" / path.name)
    run(raw, tmp_path / "out2")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "out2")


def test_unreadable_entries(raw, tmp_path, skipped):
    """Each costs the images of its study, and is counted."""
    clean = run(raw, tmp_path / "clean")
    keys = list(raw.metadata["train"])[:6]
    content = raw.metadata["train"]
    content[keys[0]] = ["a list"]
    content[keys[1]]["ImagePath"] = None
    content[keys[2]]["ImagePath"] = [7]
    content[keys[3]]["ImageViewPosition"] = ["PA"] * 9
    del content[keys[4]]["PatientID"]
    content[keys[5]]["ImagePath"] = ["../../secret.png"] * len(content[keys[5]]["ImagePath"])
    raw.write()
    prepared = run(raw, tmp_path / "out", views="PA,AP,FRONTAL,LATERAL")
    assert not {*keys} & {*prepared.index["study_id"].to_pylist()}
    assert {*clean.index["study_id"].to_pylist()} - {*keys} <= {*prepared.index["study_id"].to_pylist()}
    place = "train_metadata_view_position.json:{}"
    news = skipped(tmp_path / "out")
    reasons = ["PatientID", "ImagePath", "ImagePath", "ImageViewPosition", "PatientID"]
    for key, reason in zip(keys, reasons, strict=False):
        (words,) = [text for name, text in news if name == place.format(key)]
        assert words.startswith(f"unreadable row: {reason}")
    assert ("secret", "escapes root") in news


def test_duplicates(raw, tmp_path, skipped):
    clean = run(raw, tmp_path / "clean", views="PA,AP,FRONTAL,LATERAL")
    key, entry = next(iter(raw.metadata["train"].items()))
    raw.metadata["test"][key] = entry
    raw.metadata["test"]["another"] = {**entry, "ImagePath": [*entry["ImagePath"]]}
    raw.write()
    prepared = run(raw, tmp_path / "out", views="PA,AP,FRONTAL,LATERAL")
    assert prepared.index["image_id"] == clean.index["image_id"]
    news = [name for name, reason in skipped(tmp_path / "out") if reason == "duplicate id"]
    assert len(news) == 2 * len(entry["ImagePath"])
    assert prepared.manifest["counts"]["table"] == clean.manifest["counts"]["table"] + len(news)


@pytest.mark.parametrize("damage", ["truncated", "list", "no colon", "empty", "not UTF-8"])
def test_damaged_metadata(raw, tmp_path, damage):
    path = raw.path("validate")
    data = raw.path("train").read_bytes()
    contents = {
        "truncated": data[:-50],
        "list": b"[1, 2]",
        "no colon": b'{"a" 1}',
        "empty": b"",
        "not UTF-8": data.replace(b"Findings", b"Find\xffngs", 1),
    }
    path.write_bytes(contents[damage])
    with pytest.raises(UserError, match=r"valid_metadata_view_position.json' cannot be read: .*\. Download it again\."):
        run(raw, tmp_path / "out")


def test_missing_files(raw, tmp_path):
    raw.pack()
    (raw.root / f"{NAME}.part04").unlink()
    with pytest.raises(NotFoundError, match=r"holds deid_png\.part09, but not deid_png\.part04"):
        run(raw, tmp_path / "out")
    for path in raw.root.glob(f"{NAME}.part*"):
        path.unlink()
    with pytest.raises(
        NotFoundError, match=r"neither a folder 'deid_png' nor the parts deid_png.part00 to 09\. Accept"
    ):
        run(raw, tmp_path / "out")
    raw.path("test").unlink()
    with pytest.raises(NotFoundError, match=r"no 'metadata/test_metadata_view_position.json'"):
        ReXGradient(raw.root, None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("piece", [1, 2, 7, 100, 1 << 20])
def test_entries_are_read_in_pieces(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(entries, "PIECE", piece)
    content = {"a": {"x": [1, '}\\"', None]}, "é": 1234567890, "": [], "b": "text", "c": -1.5e10, "d": True}
    for indent in (None, 4):
        (tmp_path / "x.json").write_text(json.dumps(content, indent=indent) + "\n \n", encoding="utf-8-sig")
        assert list(read_entries(tmp_path / "x.json")) == list(content.items())
    (tmp_path / "x.json").write_text(" { } ")
    assert list(read_entries(tmp_path / "x.json")) == []
    (tmp_path / "x.json").write_text('{"a": 1, "a": 2}')
    assert list(read_entries(tmp_path / "x.json")) == [("a", 1), ("a", 2)]
    for wrong in ('{"a": 1', '{"a": 1,', '{"a": ', '{"a" 1}', "{1: 2}", "[1]", "", '{"a": 1 "b": 2}'):
        (tmp_path / "x.json").write_text(wrong)
        with pytest.raises(UserError, match="cannot be read"):
            list(read_entries(tmp_path / "x.json"))
