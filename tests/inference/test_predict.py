"""Predictions: every file is accounted for, in order, whatever it is and whatever happens on the way."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import medvlp
from medvlp.__main__ import main
from medvlp.errors import NotFoundError, UserError
from medvlp.inference import predict as module
from medvlp.inference.predict import predict
from medvlp.inference.predictions import Predictions
from medvlp.inference.reading import Reader, find_files, read_all
from tests.support.deadly import Deadly
from tests.support.untrained import SIZE, make_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def weights(place):
    return make_checkpoint(place)


@pytest.fixture(scope="module")
def model(weights):
    return medvlp.load(weights)


def draw(path, seed=0, side=220):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (side // 20, side // 20)).astype(np.uint8)
    Image.fromarray(noise).resize((side, side)).save(path)
    return path


@pytest.fixture
def inputs(tmp_path):
    """Eleven files, of which four are no images."""
    root = tmp_path / "in"
    for i in range(7):
        draw(root / f"{i % 3}/{i}.{'png' if i % 2 else 'jpg'}", i)
    whole = (root / "0/0.jpg").read_bytes()
    (root / "0/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "1/notes.txt").write_text("no image")
    (root / "1/.empty.png").touch()
    os.mkfifo(root / "2/pipe")
    return root


def rows_of(path):
    """Read a file of any format, numbers as text or numbers."""
    match path.suffix:
        case ".csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        case ".json":
            return json.loads(path.read_text())
        case ".jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
    return pq.read_table(path).to_pylist()


def test_every_file_has_its_row(inputs, weights, model, tmp_path, capsys):
    out = tmp_path / "o.parquet"
    predict([str(inputs)], weights=weights, out=out, embeddings=True, batch_size=3, workers=2)
    rows = rows_of(out)
    paths = list(find_files([str(inputs)]))
    assert [row["path"] for row in rows] == paths
    assert len(rows) == 11
    skipped = {Path(row["path"]).name: row["reason"] for row in rows if row["status"] == "skipped"}
    assert skipped == {
        "cut.jpg": "truncated image",
        "notes.txt": "unreadable image: not a known format",
        ".empty.png": "empty file",
        "pipe": "no regular file",
    }
    names = [
        *(f"score/{name}" for name in medvlp.inference.model.DEFAULT_FINDINGS),
        *(f"tag/{tag}" for tag in model.tag_names),
    ]
    assert list(rows[0]) == ["path", "status", "reason", "flags", *names, "embedding"]
    for row in rows:
        if row["status"] == "skipped":
            assert all(row[name] is None for name in [*names, "embedding"])
            continue
        image = model.read(row["path"])[None]
        assert [row[name] for name in names[:14]] == pytest.approx(model.scores(image)[0].tolist(), abs=1e-6)
        assert [row[name] for name in names[14:]] == pytest.approx(model.tags(image)[0].tolist(), abs=1e-6)
        assert row["embedding"] == pytest.approx(model.embedding(image)[0].tolist(), abs=1e-6)
    said = capsys.readouterr().out
    assert "11 files: 7 predicted, 4 skipped." in said
    assert "1  truncated image" in said
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("o.")] == ["o.parquet"]


def test_all_formats_say_the_same(inputs, weights, tmp_path):
    written = {}
    for suffix in ("csv", "json", "jsonl", "parquet"):
        out = tmp_path / f"o.{suffix}"
        main(["predict", str(inputs / "1"), str(inputs / "0"), f"--weights={weights}", f"--out={out}", "--workers=1"])
        written[suffix] = rows_of(out)
    assert written["json"] == written["jsonl"]
    assert len(written["csv"]) == 8
    for texts, plain, exact in zip(written["csv"], written["json"], written["parquet"], strict=True):
        assert list(texts) == list(plain) == list(exact)
        for name, value in exact.items():
            if isinstance(value, float):
                assert float(texts[name]) == plain[name] == pytest.approx(value, rel=1e-5)
            else:
                assert texts[name] == (value or "")
                assert plain[name] == value


def test_findings_protocols_and_tags_are_chosen(inputs, weights, tmp_path):
    for name, options, columns in (
        ("a", {"findings": "Edema, left effusion ,Edema"}, ["score/Edema", "score/left effusion"]),
        ("b", {"protocol": "biovil-rsna"}, ["score/Pneumonia"]),
        ("c", {"protocol": "tags", "findings": "Edema"}, ["score/Edema"]),
    ):
        out = tmp_path / f"{name}.jsonl"
        predict([str(inputs / "0")], weights=weights, out=out, tags=False, workers=1, **options)
        assert list(rows_of(out)[0]) == ["path", "status", "reason", "flags", *columns]
    with pytest.raises(UserError, match="transductive"):
        predict([str(inputs)], weights=weights, out=tmp_path / "d.csv", protocol="gloria-5x200-transductive")
    assert not list(tmp_path.glob("d.csv*"))


@pytest.mark.parametrize(("protocol", "finding"), [("biovil-rsna", "pneumonia"), ("tags", "pleural thickening")])
def test_findings_are_asked_for_whatever_their_capitals(protocol, finding, inputs, weights, tmp_path):
    columns = []
    for name in (finding, finding.title()):
        out = tmp_path / f"{name}.csv"
        predict([str(inputs)], weights=weights, out=out, findings=name, protocol=protocol, workers=1)
        columns.append([row[f"score/{name}"] for row in rows_of(out)])
    assert columns[0] == columns[1]
    assert any(columns[0])


def test_an_interrupted_run_goes_on(inputs, weights, tmp_path, monkeypatch, capsys):
    options = {"weights": weights, "batch_size": 2, "workers": 1}
    predict([str(inputs)], out=tmp_path / "whole.csv", **options)
    append, read = Predictions.append, []

    def interrupted(self, batch):
        append(self, batch)
        if self.rows == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Predictions, "append", interrupted)
    out = tmp_path / "o.csv"
    with pytest.raises(SystemExit) as end:
        main(["predict", str(inputs), f"--weights={weights}", f"--out={out}", "--batch_size=2", "--workers=1"])
    assert end.value.code == 130
    assert "Run the same command again to continue" in capsys.readouterr().out
    assert not out.exists()
    monkeypatch.setattr(Predictions, "append", append)
    # The process may have ended while it wrote.
    partial = tmp_path / "o.csv.partial"
    partial.write_bytes(partial.read_bytes()[:-40])
    monkeypatch.setattr(module, "read_all", lambda paths, *given: read_all(note(paths, read), *given))
    predict([str(inputs)], out=out, **options)
    assert read == list(find_files([str(inputs)]))[4:]
    assert out.read_text() == (tmp_path / "whole.csv").read_text()
    assert not partial.exists()


def note(paths, noted):
    for path in paths:
        noted.append(path)
        yield path


@pytest.mark.parametrize("change", ["inputs", "findings", "weights", "garbage"])
def test_a_partial_file_of_something_else_is_not_gone_on_with(change, inputs, weights, tmp_path, monkeypatch):
    out, given = tmp_path / "o.csv", [str(inputs / "0"), str(inputs / "1")]
    finish = Predictions.finish
    monkeypatch.setattr(Predictions, "finish", lambda self, out, metadata: None)
    predict(given, weights=weights, out=out, findings="Edema", workers=1)
    monkeypatch.setattr(Predictions, "finish", finish)
    partial = tmp_path / "o.csv.partial"
    assert partial.stat().st_size > 100
    findings = "Edema"
    match change:
        case "inputs":
            given = given[::-1]
        case "findings":
            findings = "Pneumonia"
        case "weights":
            os.utime(weights, (1, 1))
        case "garbage":
            partial.write_bytes(b"garbage")
    predict(given, weights=weights, out=out, findings=findings, workers=1)
    assert [row["path"] for row in rows_of(out)] == list(find_files(given))
    assert f"score/{findings}" in rows_of(out)[0]


def test_names_of_files_may_be_anything(weights, tmp_path):
    names = [
        "a, b.png",
        'q"uote.png',
        "new\nline.png",
        "[1].png",
        "-dash.png",
        "ä.png",
        "null",
        os.fsdecode(b"\xff.png"),
    ]
    for i, name in enumerate(names):
        draw(tmp_path / "in/x.png", i).rename(tmp_path / "in" / name)
    out = tmp_path / "in/o.csv"
    predict([str(tmp_path / "in")], weights=weights, out=out, findings="Edema", tags=False, workers=1)
    rows = rows_of(out)
    assert {row["status"] for row in rows} == {"ok"}
    assert sorted(Path(row["path"]).name for row in rows) == sorted([*names[:-1], "\\xff.png"])


def test_what_is_wrong_is_said_before_the_model_is_loaded(inputs, tmp_path):
    weights = tmp_path / "nowhere.ckpt"
    (tmp_path / "there.csv").touch()
    (tmp_path / "empty").mkdir()
    for message, given, out, options in (
        ("must end in", inputs, "o.xlsx", {}),
        ("there is no such folder", inputs, "no/o.csv", {}),
        ("exists already", inputs, "there.csv", {}),
        ("ends in .parquet or .jsonl", inputs, "o.csv", {"embeddings": True}),
        ("at least 1", inputs, "o.csv", {"batch_size": 0}),
        ("at least 1", inputs, "o.csv", {"workers": 0}),
        ("there is no file in", tmp_path / "empty", "o.csv", {}),
        ("is no file, no folder, and no pattern", inputs / "nothing.png", "o.csv", {}),
        ("is no file, no folder, and no pattern", inputs / "*.dcm", "o.csv", {}),
        ("weights='.*nowhere.ckpt': no such file", inputs, "o.csv", {}),
    ):
        with pytest.raises(UserError, match=message):
            predict([str(given)], weights=weights, out=tmp_path / out, **options)
    assert not list(tmp_path.glob("*.partial"))


# Finding and reading files.


def test_files_are_found_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.png", "b/10.png", "b/a/1.png", "a.png", "[x].png", ".hidden", "b.png"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    Path("loop").symlink_to(".")
    everything = [".hidden", "[x].png", "a.png", "b/10.png", "b/2.png", "b/a/1.png", "b.png", "loop"]
    assert list(find_files(["."])) == [f"./{name}" for name in everything]
    assert list(find_files(["b", "a.png", "b"])) == [*everything[3:6], "a.png", *everything[3:6]]
    assert list(find_files(["*.png"])) == ["[x].png", "a.png", "b.png"]
    assert list(find_files(["[x].png"])) == ["[x].png"]
    assert list(find_files(["b/*"])) == everything[3:6]
    assert list(find_files(["b/**"])) == everything[3:6]
    assert list(find_files(["b/**/1.png"])) == ["b/a/1.png"]
    with pytest.raises(NotFoundError):
        list(find_files(["c*"]))
    assert Reader(8, "pad").read("loop").reason == "folder behind a link"


def test_files_that_kill_their_process_are_left_out(tmp_path):
    paths = [str(draw(tmp_path / f"{i:02}{'deadly' if i in (5, 6) else ''}.png", i)) for i in range(14)]
    found = list(read_all(paths, Deadly(SIZE, "pad"), 2))
    assert [reading.path for reading in found] == paths
    assert [i for i, reading in enumerate(found) if reading.pixels is None] == [5, 6]
    assert "ends the process" in found[5].reason


def test_no_more_files_are_read_ahead_than_wanted(tmp_path):
    path, taken = str(draw(tmp_path / "a.png")), []
    readings = read_all(note([path] * 500, taken), Reader(SIZE, "pad"), 2)
    for _ in range(10):
        next(readings)
    assert len(taken) < 50
    readings.close()


def test_rows_survive_in_a_partial_file(tmp_path):
    import pyarrow as pa

    schema = pa.schema({"a": pa.int64()})
    path = tmp_path / "o.csv.partial"
    for expected in range(3):
        predictions = Predictions(path, schema, ["same"])
        assert predictions.rows == expected
        predictions.append(pa.record_batch([[expected]], schema))
    path.write_bytes(path.read_bytes() + b"\0" * 7)
    assert Predictions(path, schema, ["same"]).rows == 3
    assert Predictions(path, schema, ["other"]).rows == 0
