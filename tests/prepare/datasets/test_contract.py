"""The contract of all front ends, the next one included: clean data, missing files, damaged tables and images."""

import re
import shutil
from fnmatch import fnmatch
from importlib import import_module

import pytest

from medvlp.errors import NotFoundError, UserError
from medvlp.phantom import phantom
from medvlp.phantom.layouts import NAMES
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepared import MANIFEST, SYNTHETIC
from tests.support.raw import make_raw, read_lines, write_lines

pytestmark = pytest.mark.slow

# Data sets of reports without labels.
UNLABELLED = {"rexgradient"}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom")
    phantom(out / "all", studies=40, seed=1, size=64, workers=1, layouts="all")
    return out / "all"


@pytest.fixture(scope="module", params=COMMANDS)
def raw(request, layouts, tmp_path_factory):
    """The raw folder of a front end. All tests share it: they restore what they change."""
    return make_raw(request.param, layouts, tmp_path_factory.mktemp(request.param) / "raw")


@pytest.fixture(scope="module")
def clean(raw, tmp_path_factory):
    return raw.prepare(tmp_path_factory.mktemp(raw.name) / "clean")


@pytest.fixture
def tables(raw):
    """The tables and lists, to be damaged."""
    contents = {path: path.read_bytes() for path in raw.tables}
    yield [*contents]
    for path in raw.tables:
        path.unlink()
    for path, data in contents.items():
        path.write_bytes(data)


def is_csv(table):
    return ".csv" in table.suffixes


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


def test_the_mark_of_invented_patients_and_packed_tables(raw, clean, tables, tmp_path, folder_bytes):
    """Tables may be packed or not; without the mark of the phantom, patients count as real."""
    for path in filter(is_csv, tables):
        lines = read_lines(path)
        write_lines(path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz"), lines)
        path.unlink()
    marks = {path: path.read_bytes() for path in raw.folder.rglob(SYNTHETIC)}
    assert clean.synthetic == bool(marks) == (raw.name in NAMES)
    for path in marks:
        path.unlink()
    try:
        assert not raw.prepare(tmp_path / "out").synthetic
    finally:
        for path, data in marks.items():
            path.write_bytes(data)
    files, expected = folder_bytes(tmp_path / "out"), folder_bytes(clean.root)
    assert files.keys() == expected.keys()
    # The manifest tells whether the patients are invented.
    assert {name for name in files if files[name] != expected[name]} <= {MANIFEST}


def test_truncated_tables(raw, tables, tmp_path):
    errors = 0
    for table in tables:
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
    assert errors or not any(map(is_csv, tables))


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


def test_missing_columns(raw, clean, tables, tmp_path):
    """Other columns than the needed ones may have any name: all are renamed, then each one that is asked for is not."""
    contents = {table: read_lines(table) for table in filter(is_csv, tables)}
    needed = {table: set() for table in contents}
    errors = 0
    while True:
        for table, (header, *lines) in contents.items():
            names = header.split(",")
            present = [name if name.strip() in needed[table] else f"other{i}" for i, name in enumerate(names)]
            write_lines(table, [",".join(present), *lines])
        try:
            prepared = raw.prepare(tmp_path / "out")
        except UserError as error:
            errors += 1
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            message = str(error)
            (table,) = [table for table in contents if f"'{table}'" in message]
            names = [name.strip() for name in contents[table][0].split(",")]
            if "does not begin with" in message:
                assert contents[table][0][:12] in message
                assert read_lines(table)[0][:60] in message
                needed[table] = set(names)
                continue
            present = [name.strip() for name in read_lines(table)[0].split(",")]
            assert f"; its columns are {', '.join(present)}" in message
            (name,) = re.findall("has no column '(.*?)'", message)
            assert name in {*names} - needed[table]
            needed[table].add(name)
        else:
            break
    assert errors or not contents
    assert prepared.index["image_id"] == clean.index["image_id"]


def test_rows_of_the_wrong_length(raw, clean, tables, tmp_path, skipped):
    contents = {table: read_lines(table) for table in tables}
    for table, lines in contents.items():
        write_lines(table, [*lines, "single", "," * lines[0].count(",")])
    prepared = raw.prepare(tmp_path / "out")
    assert prepared.index.equals(clean.index)
    news = dict(set(skipped(prepared.root)) - set(skipped(clean.root)))
    places = {f"{table.name}:{len(lines) + n}" for table, lines in contents.items() for n in (1, 2)}
    assert set(news) <= {"single", *places, *("," * n for n in range(99))}
    assert news or not contents
    for table, lines in contents.items():
        if is_csv(table) and (reason := news.get(f"{table.name}:{len(lines) + 1}")):
            assert re.fullmatch(r"unreadable row: 1 fields, not \d+", reason)


def test_duplicate_rows(raw, clean, tables, tmp_path, skipped):
    """All rows of all tables twice."""
    copies = {}
    for table in tables:
        lines = read_lines(table)
        first = int(is_csv(table))
        write_lines(table, [*lines, *lines[first:]])
        copies[table] = {f"{table.name}:{place}" for place in range(len(lines) + 1, 2 * len(lines) + 1 - first)}
    prepared = raw.prepare(tmp_path / "out")
    assert prepared.index.equals(clean.index)
    news = set(skipped(prepared.root)) - set(skipped(clean.root))
    assert {reason for _, reason in news} <= {"duplicate id"}
    read = [table for table in tables if copies[table] & {place for place, _ in news}]
    assert {place for place, _ in news} == {place for table in read for place in copies[table]}
    assert read or not tables


REASONS = ("missing file", "escapes root", "empty file", "truncated image", "unreadable image")
DAMAGES = ["missing", "outside", 0, 100, 500, -100]


def test_images_that_cannot_be_read_are_left_out(raw, clean, tmp_path, skipped):
    """All else, the splits of the others included, is as before. A number is that of the bytes left."""
    # One damage for each image; the first one stays.
    rows = clean.index.to_pylist()[1:]
    for first in range(0, len(DAMAGES), len(rows)):
        damages = dict(zip((row["image_id"] for row in rows), DAMAGES[first:], strict=False))
        contents = {name: raw.image(row).read_bytes() for row in rows if (name := row["image_id"]) in damages}
        paths = {name: raw.image(row) for row in rows if (name := row["image_id"]) in damages}
        for name, damage in damages.items():
            paths[name].unlink()
            if damage == "outside":
                (tmp_path / "secret").write_bytes(contents[name])
                paths[name].symlink_to(tmp_path / "secret")
            elif damage != "missing":
                paths[name].write_bytes(contents[name][:damage])
        try:
            prepared = raw.prepare(tmp_path / f"out{first}")
        finally:
            for name, path in paths.items():
                path.unlink(missing_ok=True)
                path.write_bytes(contents[name])
        news = dict(set(skipped(prepared.root)) - set(skipped(clean.root)))
        assert news.keys() == damages.keys()
        for name, damage in damages.items():
            reason = news[name]
            assert {"missing": "missing file", "outside": "escapes root", 0: "empty file"}.get(damage, reason) == reason
            assert reason.startswith(REASONS)
        kept = clean.index.filter([name not in damages for name in clean.index["image_id"].to_pylist()])
        # One's own files are looked up before the images are decoded: there is no row for one that is not there.
        dropped = ["row"] if raw.name == "table" else []
        assert prepared.index.drop_columns(dropped).equals(kept.drop_columns(dropped))
        assert prepared.manifest["counts"]["table"] == clean.manifest["counts"]["table"]
