import os
import subprocess
import sys
import zipfile

import pytest

from medvlp.prepare.files import EscapesRootError, Folder, Zip, escapes, find_images, inside, locator


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "..", "a\\..\\..\\b", "\\\\host\\a", "a\0b"])
def test_escaping_names(tmp_path, path):
    assert escapes(path)
    with pytest.raises(EscapesRootError):
        inside(tmp_path, path, [os.path.realpath(tmp_path)])


@pytest.mark.parametrize("path", ["a", "a/b.jpg", "..a", "a..", "a/...b"])
def test_names_that_stay(tmp_path, path):
    assert not escapes(path)
    assert inside(tmp_path, path, [os.path.realpath(tmp_path)]) == os.path.realpath(tmp_path / path)


def test_images_are_found_by_stem(tmp_path):
    """The first folder's, and there the png before the jpg; below a folder too, but in no folder that is a link."""
    names = [
        "a/x.jpg",
        "a/x.png",
        "a/z.txt",
        "b/x.dcm",
        "b/c/d/y.v2.JPEG",
        "e/w.png",
        "a/v.DICOM",
        "a/v.jpg",
        "b/.DS_Store",
    ]
    for name in [*names, "b/1.2.840.10", "b/image", "b/v", "a/image.DCM"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/link").symlink_to(tmp_path / "e")
    found = find_images(tmp_path, tmp_path / "a", tmp_path / "b")
    assert found == {
        "x": "a/x.png",
        "y.v2": "b/c/d/y.v2.JPEG",
        "v": "a/v.DICOM",
        "image": "a/image.DCM",
        "1.2.840.10": "b/1.2.840.10",
    }


def test_folder_with_the_same_beginning(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root2").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "root2/x")
    with pytest.raises(EscapesRootError):
        Folder(tmp_path / "root").read("link")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_by_position(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", method) as archive:
        for number in range(5):
            archive.writestr(f"a/s{number}.txt", f"text {number} " * 100 if number else "")
    store = Zip(tmp_path / "z.zip")
    find = locator(store, lambda name: name.endswith(".txt"), lambda *row: None)
    assert find("p10/s9.txt") is None
    for number in range(5):
        name = find(f"p10/s{number}.txt")
        assert name is not None
        if method == zipfile.ZIP_BZIP2:
            with pytest.raises(ValueError, match="zip method"):
                store.read(name)
        else:
            assert store.read(name).decode() == (f"text {number} " * 100 if number else "")


def test_import_is_light():
    code = "import sys, medvlp.prepare; print({'torch', 'PIL', 'cv2', 'pyarrow', 'rich'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
