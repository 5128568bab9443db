"""Open-I as the National Library of Medicine hands it out: the studies of Kaggle's tables, and its own faults."""

import io
import shutil
import tarfile

import pytest

from medvlp.data import CXRDataModule
from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepare.datasets.open_i import open_i
from medvlp.prepare.layouts.ecgen import MAX_REPORT, parse
from medvlp.prepare.layouts.open_i_files import plain
from medvlp.prepared import Prepared

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
XML = """<?xml version="1.0" encoding="{encoding}"?>{doctype}<eCitation><uId id="CXR7"/><Abstract>
<AbstractText Label="COMPARISON"/><AbstractText Label="INDICATION">Fever</AbstractText>
<AbstractText Label="FINDINGS">Clear &amp; normal <i>lungs</i>, 37\u00b0.</AbstractText>
<AbstractText Label="IMPRESSION">Normal.</AbstractText></Abstract><MeSH><major>Opacity/lung </major><major/>
<automatic>opacity</automatic></MeSH><parentImage id="CXR7_7_IM-1-1001"/>
<parentImage id="CXR7_7_IM-1-2001"/></eCitation>"""


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    out = tmp_path_factory.mktemp("open_i") / "phantom"
    phantom(out, studies=24, seed=5, size=64, workers=1, layouts="open_i")
    return out


@pytest.fixture
def root(both, tmp_path):
    return shutil.copytree(both / "open-i-official", tmp_path / "official")


def run(root, out, **options):
    open_i(root, out, **{"regions": "none", "size": 64, "workers": 1, "views": "FRONTAL,LATERAL", **options})
    return Prepared.open(out)


def pack(root):
    """Pack the XML files, as they are handed out."""
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as archive:
        archive.add(root / "ecgen-radiology", "ecgen-radiology")
    shutil.rmtree(root / "ecgen-radiology")


def reports(root):
    return sorted((root / "ecgen-radiology").iterdir())


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def clean(both, tmp_path_factory):
    return run(both / "open-i-official", tmp_path_factory.mktemp("clean") / "out")


def test_both_layouts_hold_the_same_studies(both, clean, tmp_path):
    csv = run(both / "open-i", tmp_path / "csv")
    ours, theirs = (
        {plain(row["image_id"].removesuffix(".png")): row for row in prepared.index.to_pylist()}
        for prepared in (clean, csv)
    )
    assert ours.keys() == theirs.keys()
    assert len(ours) > 24
    for name, row in ours.items():
        for key in row.keys() - {"row", "image_id", "path", "view"}:
            assert row[key] == theirs[name][key], (name, key)
        assert (clean.images[row["row"]] == csv.images[theirs[name]["row"]]).all()
    # What the screening takes for lateral is lateral.
    assert {theirs[name]["view"] for name, row in ours.items() if row["view"] == "LATERAL"} == {"LATERAL"}
    assert {row["split"] for row in ours.values()} == {"train", "validate", "test"}
    assert clean.synthetic
    assert {None, 0, 1} == {row["label/Pleural Effusion"] for row in ours.values()}


def test_views_are_told_by_the_screening(root, clean, tmp_path, skipped, capsys):
    prepared = run(root, tmp_path / "out", views="FRONTAL")
    kept = clean.index.filter([view == "FRONTAL" for view in clean.index["view"].to_pylist()])
    assert prepared.index["image_id"] == kept["image_id"]
    assert set(prepared.index["view"].to_pylist()) == {"FRONTAL"}
    lateral = len(clean.index) - len(kept)
    assert lateral > 0
    reason = "view LATERAL: told by the screening"
    assert [why for _, why in skipped(tmp_path / "out")] == [reason] * lateral
    counts = prepared.manifest["counts"]
    assert counts["skipped"] == {"view LATERAL": lateral}
    assert counts["table"] == counts["decoded"] + lateral == len(clean.index)
    assert prepared.manifest["options"]["views_told_by"] == "the screening"
    assert "The tables know no views: the screening told them. Kept: FRONTAL." in capsys.readouterr().out


def test_an_archive_of_reports_equals_its_folder(root, clean, tmp_path, folder_bytes):
    pack(root)
    (root / "NLMCXR_png").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    prepared = run(root, tmp_path / "out")
    assert prepared.index.drop(["path"]).equals(clean.index.drop(["path"]))


def test_a_batch(clean):
    data = CXRDataModule(clean.root, batch_size=4, crop=56, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[0] == 4
    assert any(batch["findings"])


def test_dicom_goes_before_png(root, clean, tmp_path, dicom):
    import numpy as np

    name = clean.index["image_id"][0].as_py()
    pixels = np.random.default_rng(0).integers(0, 255, (80, 60)).astype(np.uint8)
    (root / "1").mkdir()
    (root / "1" / f"{plain(name)}.dcm").write_bytes(dicom(pixels))
    row = run(root, tmp_path / "out").index.to_pylist()[0]
    assert row["image_id"] == name
    assert row["path"] == f"1/{plain(name)}.dcm"
    assert (row["height"], row["width"]) == (80, 60)


def test_damaged_files(root, clean, tmp_path, skipped):
    """Broken XML, entities, a report twice, an image twice, an image without report: the others are as before."""
    broken, bomb, empty, *others = reports(root)
    lost = [path.stem for path in (broken, bomb, empty)]
    broken.write_bytes(broken.read_bytes()[:200])
    edit(bomb, "<eCitation>", f"{BOMB}<eCitation>")
    empty.write_bytes(b"")
    (root / "ecgen-radiology/copy.xml").write_bytes(others[0].read_bytes())
    images = [f'<parentImage id="{name}">\n</parentImage>\n' for name in ("../../secret", "", "CXR9_9_IM-1-1001")]
    edit(others[1], "</eCitation>", f"{''.join(images)}</eCitation>")
    (tmp_path / "secret.png").write_bytes(next((root / "NLMCXR_png").iterdir()).read_bytes())
    (root / "ecgen-radiology/link.xml").symlink_to(tmp_path / "secret.png")
    prepared = run(root, tmp_path / "out")
    kept = clean.index.filter([study not in lost for study in clean.index["study_id"].to_pylist()])
    assert prepared.index["image_id"] == kept["image_id"]
    assert prepared.index["findings"] == kept["findings"]
    found = skipped(tmp_path / "out")
    reasons = dict(found)
    assert reasons[broken.name].startswith("unreadable report: no XML (")
    assert reasons[empty.name].startswith("unreadable report: no XML (")
    assert reasons[bomb.name] == "unreadable report: it declares entities"
    assert ("copy.xml", "duplicate id") in found or (others[0].name, "duplicate id") in found
    assert reasons["link.xml"] == "report escapes root"
    assert reasons["../../secret"] == "escapes root"
    assert reasons[others[1].name] == "unreadable row: an image without a name"
    assert reasons["CXR9_9_IM-1-1001"] == "missing file"
    orphans = [what for what, why in found if why == "no report"]
    assert len(orphans) == len(clean.index) - len(kept)
    counts = prepared.manifest["counts"]
    assert counts["table"] == counts["decoded"] + len(orphans) + 3


def test_an_image_of_two_reports_and_a_report_without_images(root, clean, tmp_path, skipped):
    first, second, *_ = reports(root)
    name = next(row["image_id"] for row in clean.index.to_pylist() if row["study_id"] == first.stem)
    edit(second, "</eCitation>", f'<parentImage id="{name}"/></eCitation>')
    (root / "ecgen-radiology/99.xml").write_text(
        "<eCitation><uId id='CXR99'/><AbstractText Label='FINDINGS'>Clear lungs seen.</AbstractText></eCitation>"
    )
    assert run(root, tmp_path / "out").index.equals(clean.index)
    assert skipped(tmp_path / "out") == [(name, "duplicate id"), ("99.xml", "report without an image")]


@pytest.mark.parametrize("left", [100, -40, -4])
def test_a_truncated_archive(root, tmp_path, left):
    pack(root)
    archive = root / "NLMCXR_reports.tgz"
    archive.write_bytes(archive.read_bytes()[:left])
    with pytest.raises(UserError, match=r"NLMCXR_reports\.tgz' cannot be read to its end .*Download it again"):
        run(root, tmp_path / "out")


def test_members_that_are_no_files_of_the_archive(root, clean, tmp_path, skipped):
    pack(root)
    with tarfile.open(root / "more.tgz", "w:gz") as archive:
        with tarfile.open(root / "NLMCXR_reports.tgz") as before:
            for member in before:
                archive.addfile(member, before.extractfile(member) if member.isfile() else None)
        link = tarfile.TarInfo("ecgen-radiology/link.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        outside = tarfile.TarInfo("../../outside.xml")
        outside.size = 3
        archive.addfile(outside, io.BytesIO(b"<a>"))
    (root / "more.tgz").replace(root / "NLMCXR_reports.tgz")
    assert run(root, tmp_path / "out").index.equals(clean.index)
    assert dict(skipped(tmp_path / "out")) == {
        "NLMCXR_reports.tgz:ecgen-radiology/link.xml": "unreadable report: no file",
        "NLMCXR_reports.tgz:../../outside.xml": "escapes root",
    }


def test_images_that_are_not_there(root, tmp_path):
    shutil.rmtree(root / "NLMCXR_png")
    with pytest.raises(NotFoundError, match=r"holds no folder of images\. Download NLMCXR_reports\.tgz"):
        run(root, tmp_path / "out")
    (root / "NLMCXR_png.tgz").touch()
    with pytest.raises(NotFoundError, match=r"but NLMCXR_png\.tgz\. Unpack it: mkdir"):
        run(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_there(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(NotFoundError, match=r"neither indiana_reports\.csv .*https://openi\.nlm\.nih\.gov.*Kaggle"):
        run(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_elements_of_a_report(encoding):
    report = parse(XML.format(encoding=encoding, doctype="").encode(encoding), "9")
    assert report.uid == "7"
    assert report.sections == {
        "indication": "Fever",
        "findings": "Clear & normal lungs, 37\u00b0.",
        "impression": "Normal.",
    }
    assert report.coding == ["Opacity/lung"]
    assert report.images == ["CXR7_7_IM-1-1001", "CXR7_7_IM-1-2001"]
    assert report.utf8 == (encoding == "utf-8")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (XML.format(encoding="utf-8", doctype=BOMB).encode(), "declares entities"),
        (b"<a>" + b" " * MAX_REPORT + b"</a>", "more than 1 MiB"),
        (b"<eCitation><uId id='CXR'/></eCitation>", "no number"),
        (b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'><a>&secret;</a>", "no number|no XML"),
        (b"\x00\xff<a>", "no XML"),
        (b"<html><body>login</body>", "no XML"),
    ],
)
def test_files_that_are_no_reports(data, reason):
    with pytest.raises(LeftOutError, match=reason):
        parse(data, "report")


def test_names_of_images():
    assert plain("CXR1_1_IM-0001-3001") == plain("1_IM-0001-3001.dcm") == "1_IM-0001-3001"
    assert plain("CXR2_IM-0652-1001") == "2_IM-0652-1001"
    assert plain("CXR12_1_IM-0001") == "12_1_IM-0001"
