"""`medvlp demo open_i`, from two archives to a table and pictures, with a phantom instead of patients."""

import json
import shutil
import tarfile

import pytest

from medvlp.__main__ import main
from medvlp.demo.open_i import IMAGES, REPORTS, fetch
from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.prepared import Prepared

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The two files as the library hands them out."""
    folder = tmp_path_factory.mktemp("archives")
    phantom(folder / "phantom", studies=60, seed=2, size=96, workers=1, layouts="open_i")
    made = folder / "phantom/open-i-official"
    for name, content in ((REPORTS, "ecgen-radiology"), (IMAGES, "NLMCXR_png")):
        with tarfile.open(folder / name, "w:gz") as archive:
            archive.add(made / content, content)
    return folder


@pytest.mark.slow
def test_from_archives_to_a_table_and_pictures(archives, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "raw"
    root.mkdir()
    for name in (REPORTS, IMAGES):
        shutil.copy(archives / name, root)
    words = [f"--server={NOWHERE}", "--root=raw", "--data=prepared/open_i", "--epochs=1", "--size=64", "--workers=1"]
    main(["demo", "open_i", *words])
    out = tmp_path / "runs/open_i"
    index = Prepared.open(tmp_path / "prepared/open_i").index
    assert set(index["view"].to_pylist()) == {"FRONTAL"}
    for name in ("curves.png", "matches.png", "heat_maps.png", "benchmarks/results.md", "benchmarks/results.html"):
        assert (out / name).stat().st_size > 500
    (cell,) = (out / "benchmarks").rglob("zeroshot-open-i/**/results.json")
    content = json.loads(cell.read_text())
    assert 0 <= content["metrics"]["auroc"]["value"] <= 1
    printed = capsys.readouterr().out
    assert "5/5 Tables and pictures" in printed
    assert "Where the model sees what reports say" in printed


@pytest.mark.parametrize("there", [[], [REPORTS], [IMAGES]])
def test_without_a_network_it_says_which_files_to_put_where(archives, tmp_path, monkeypatch, there):
    monkeypatch.setattr("medvlp.prepare.download.time.sleep", lambda seconds: None)
    for name in there:
        shutil.copy(archives / name, tmp_path)
    with pytest.raises(NotFoundError) as error:
        fetch(tmp_path, NOWHERE)
    message = str(error.value)
    assert f"into '{tmp_path}', and run the same command again" in message
    for name in (REPORTS, IMAGES):
        assert (f"{NOWHERE}/{name} (" in message) == (name not in there)


def test_unpacked_folders_need_nothing(archives, tmp_path):
    shutil.copytree(archives / "phantom/open-i-official", tmp_path, dirs_exist_ok=True)
    before = sorted(tmp_path.iterdir())
    fetch(tmp_path, NOWHERE)
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_archive_of_images(archives, tmp_path):
    shutil.copy(archives / REPORTS, tmp_path)
    (tmp_path / IMAGES).write_bytes((archives / IMAGES).read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{IMAGES}' cannot be read to its end .*Download it again"):
        fetch(tmp_path, NOWHERE)
    assert not (tmp_path / "NLMCXR_png").exists()
