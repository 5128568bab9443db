"""The contract of all front ends, the next one included: clean data, missing files, damaged tables and images."""

import re
import shutil
from fnmatch import fnmatch
from importlib import import_module

import pyarrow.compute as pc
import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.phantom.layouts import NAMES
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepared import SYNTHETIC
from tests.support.raw import make_raw, read_lines, write_lines

pytestmark = pytest.mark.slow

# Data sets of reports without labels.
UNLABELLED = {"rexgradient"}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    phantom(out / "all", studies=40, seed=1, size=64, workers=1, layouts="all")
    return out / "all"


@pytest.fixture(params=COMMANDS)
def raw(request, layouts, tmp_path):
    return make_raw(request.param, layouts, tmp_path / "raw")


@pytest.fixture
def clean(raw, tmp_path):
    return raw.prepare(tmp_path / "clean")


def without(index, image_id):
    return index.filter(pc.not_equal(index["image_id"], image_id))


def test_every_image_is_in_the_index_or_in_skipped_csv(raw, clean, skipped):
    counts = clean.manifest["counts"]
    rows = clean.index.to_pylist()
    assert counts["table"] == counts["decoded"] + len(skipped(clean.root))
    assert counts["decoded"] == len(rows) == len({row["image_id"] for row in rows}) > 2
    assert clean.labels == list(clean.manifest["labels"])
    assert clean.labels or raw.name in UNLABELLED
    assert {row[f"label/{name}"] for row in rows for name in clean.labels} <= {None, -1, 0, 1}
    for variant, facts in clean.split_variants.items():
        assert facts["rule"]
        assert sum(facts["counts"].values()) == sum(row[f"split/{variant}"] in facts["counts"] for row in rows) > 0
    assert clean.manifest["options"]["dataset"] == raw.name
    assert not [value for value in clean.manifest["options"].values() if str(raw.folder) in str(value)]


def test_the_mark_of_invented_patients(raw, clean, tmp_path):
    marks = [path for path in raw.folder.rglob(SYNTHETIC)]
    assert clean.synthetic == bool(marks) == (raw.name in NAMES)
    for path in marks:
        path.unlink()
    assert not raw.prepare(tmp_path / "out").synthetic


def test_tables_may_be_packed_or_not(raw, clean, tmp_path, folder_bytes):
    tables = [path for path in raw.tables if ".csv" in path.suffixes]
    for path in tables:
        lines = read_lines(path)
        write_lines(path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz"), lines)
        path.unlink()
    raw.prepare(tmp_path / "out")
    assert folder_bytes(tmp_path / "out") == folder_bytes(clean.root)


def test_truncated_tables(raw, tmp_path):
    errors = 0
    for table in raw.tables:
        lines = read_lines(table)
        packed = table if table.suffix == ".gz" else table.with_name(f"{table.name}.gz")
        table.unlink()
        write_lines(packed, lines)
        packed.write_bytes(packed.read_bytes()[:-4])
        try:
            raw.prepare(tmp_path / "out")
        except NotFoundError as error:
            assert f"'{table.name}' is not in --root" in str(error)  # noqa: PT017
        except UserError as error:
            errors += 1
            assert f"'{packed}' cannot be read" in str(error)  # noqa: PT017
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        packed.unlink()
        write_lines(table, lines)
    assert errors or not any(".csv" in path.suffixes for path in raw.tables)


@pytest.mark.parametrize("option", [{"size": 0}, {"workers": 0}])
def test_options_out_of_range(raw, tmp_path, option):
    with pytest.raises(UserError, match="--size and --workers must be at least 1"):
        raw.prepare(tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_missing_files_and_folders(raw, clean, tmp_path, skipped):
    """The error comes before anything is written, and says how to get the file; but an image file may be missing."""
    how = getattr(import_module(f"medvlp.prepare.datasets.{raw.name}"), "HOW", "")
    ids = set(clean.index["image_id"].to_pylist())
    errors = 0
    for argument, folder in raw.arguments.items():
        for path in [folder, *folder.iterdir()]:
            is_folder = path.is_dir()
            path.rename(tmp_path / "away")
            out = tmp_path / "out"
            try:
                prepared = raw.prepare(out)
            except UserError as error:
                message = str(error)
                if not isinstance(error, NotFoundError):
                    assert is_folder
                    assert re.search(r"No image is left .*no report \(", message)
                    continue
                errors += 1
                assert f"--{argument}='{folder}'" in message
                # Several versions of a table, or folders of images, go by a common name.
                name, words = path.name.removesuffix(".gz"), [word.rstrip(".") for word in message.split()]
                is_named = name in message or any(fnmatch(name, word) for word in words)
                assert path == folder or is_named or "no folder of images" in message
                advice = how.get(argument, "") if isinstance(how, dict) else how
                # One's own data are not downloaded.
                assert re.search("https://|Kaggle", advice) or raw.name == "table"
                assert advice in message
                layout = "" if raw.name == "mimic_cxr" else f" --layouts {raw.name}"
                assert (f"'medvlp phantom{layout}' writes" in message) == (raw.name in NAMES)
                assert not out.exists()
            else:
                assert path != folder
                lost = ids - set(prepared.index["image_id"].to_pylist())
                assert lost <= {name for name, reason in skipped(out) if reason == "missing file"}
                assert bool(lost) <= is_folder
            finally:
                (tmp_path / "away").rename(path)
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert errors > len(raw.arguments)


def test_missing_columns(raw, clean, tmp_path):
    """Other columns than the needed ones may have any name: all are renamed, then each one that is asked for is not."""
    errors = 0
    for number, table in enumerate(path for path in raw.tables if ".csv" in path.suffixes):
        header, *lines = read_lines(table)
        names = header.split(",")
        needed = set()
        while True:
            present = [name if name.strip() in needed else f"other{i}" for i, name in enumerate(names)]
            write_lines(table, [",".join(present), *lines])
            try:
                prepared = raw.prepare(tmp_path / f"out{number}")
            except UserError as error:
                errors += 1
                message = str(error)
                assert f"'{table}'" in message
                if "does not begin with" in message:
                    assert header[:12] in message
                    assert ",".join(present)[:60] in message
                    break
                assert f"; its columns are {', '.join(name.strip() for name in present)}" in message
                (name,) = re.findall("has no column '(.*?)'", message)
                assert name in {name.strip() for name in names} - needed
                needed.add(name)
            else:
                assert prepared.index["image_id"] == clean.index["image_id"]
                break
        write_lines(table, [header, *lines])
    assert errors or not any(".csv" in path.suffixes for path in raw.tables)


def test_rows_of_the_wrong_length(raw, clean, tmp_path, skipped):
    reasons = set()
    for number, table in enumerate(raw.tables):
        lines = read_lines(table)
        count = lines[0].count(",") + 1
        write_lines(table, [*lines, "single", "," * (count - 1)])
        prepared = raw.prepare(tmp_path / f"out{number}")
        assert prepared.index.equals(clean.index)
        news = dict(set(skipped(prepared.root)) - set(skipped(clean.root)))
        assert set(news) <= {"single", ",", *(f"{table.name}:{len(lines) + n}" for n in (1, 2)), "," * (count - 1)}
        reason = news.get(f"{table.name}:{len(lines) + 1}")
        if ".csv" in table.suffixes and news:
            assert re.fullmatch(r"unreadable row: 1 fields, not \d+", reason)
        reasons.add(reason)
        write_lines(table, lines)
    assert reasons - {None} or not raw.tables


def test_duplicate_rows(raw, clean, tmp_path, skipped):
    """All rows of a table twice."""
    places = set()
    for number, table in enumerate(raw.tables):
        lines = read_lines(table)
        first = int(".csv" in table.suffixes)
        write_lines(table, [*lines, *lines[first:]])
        prepared = raw.prepare(tmp_path / f"out{number}")
        assert prepared.index["image_id"] == clean.index["image_id"]
        news = set(skipped(prepared.root)) - set(skipped(clean.root))
        if news:
            assert prepared.index.equals(clean.index)
            copies = range(len(lines) + 1, 2 * len(lines) + 1 - first)
            assert news == {(f"{table.name}:{place}", "duplicate id") for place in copies}
        places |= news
        write_lines(table, lines)
    assert places or not raw.tables


@pytest.mark.parametrize("damage", ["missing", "outside", 0, 100, 500, -100])
def test_an_image_that_cannot_be_read_is_left_out(raw, clean, tmp_path, skipped, damage):
    """All else, the splits of the others included, is as before. A number is that of the bytes left."""
    image = clean.index.to_pylist()[1]
    path = raw.image(image)
    data = path.read_bytes()
    path.unlink()
    if damage == "outside":
        (tmp_path / "secret").write_bytes(data)
        path.symlink_to(tmp_path / "secret")
    elif damage != "missing":
        path.write_bytes(data[:damage])
    prepared = raw.prepare(tmp_path / "out")
    (new,) = set(skipped(prepared.root)) - set(skipped(clean.root))
    assert new[0] == image["image_id"]
    assert {"missing": "missing file", "outside": "escapes root", 0: "empty file"}.get(damage, new[1]) == new[1]
    assert new[1].startswith(("missing file", "escapes root", "empty file", "truncated image", "unreadable image"))
    expected = without(clean.index, image["image_id"])
    if raw.name == "table" and damage == "missing":
        # Its files are looked up before the images are decoded: there is no row for one that is not there.
        assert prepared.index.drop_columns(["row"]).equals(expected.drop_columns(["row"]))
    else:
        assert prepared.index.equals(expected)
    assert prepared.manifest["counts"]["table"] == clean.manifest["counts"]["table"]
