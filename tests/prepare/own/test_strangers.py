"""Four strangers' tables: understood, prepared, trained on and searched."""

import json
import shlex
from collections import Counter

import pytest

from medvlp.__main__ import main
from medvlp.prepared import Prepared
from tests.support.runs import clear_environment
from tests.support.strangers import STRANGERS
from tests.support.tiny import make_language_model, options

SMALL = ("--size=48", "--workers=1")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    return {name: make(folder / name) for name, make in STRANGERS.items() if (folder / name).mkdir() is None}


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    for name, arguments in raw.items():
        main(["prepare", "table", *words(arguments), f"--out={out / name}", *SMALL])
    return {name: Prepared.open(out / name) for name in raw}


def words(arguments):
    return [f"--{name}={value}" for name, value in arguments.items()]


def left_out(skipped):
    return [reason for what, reason in skipped if not what.startswith("regions of ")]


def test_german(prepared, skipped):
    rows = prepared["german"].index.to_pylist()
    # 24 studies, 12 of them with a lateral view beside the frontal one.
    assert len(rows) == 24
    reasons = Counter(left_out(skipped(prepared["german"].root)))
    assert reasons.pop("no image: accession number 99 is in no header") == 1
    assert reasons.pop("another part of the body: HAND") == 1
    assert reasons == {"view LATERAL": 12, "no image: a DICOM file of Basic Text SR Storage": 1}
    assert {row["subject_id"] for row in rows} == {f"{i:06d}" for i in range(12)}
    assert rows[0]["findings"] == "The heart is enlarged. There is no pleural effusion."
    assert rows[0]["impression"] == "Cardiomegaly, no acute process."
    assert prepared["german"].labels == ["Cardiomegaly", "No Finding", "Pleural Effusion"]
    values = [tuple(row[f"label/{name}"] for name in prepared["german"].labels) for row in rows]
    assert values[:3] == [(1, 0, 1), (0, 1, 0), (None, None, None)]
    assert {row["view"] for row in rows} == {"PA"}


def test_spanish(prepared, skipped):
    rows = prepared["spanish"].index.to_pylist()
    assert len(rows) == 23
    assert left_out(skipped(prepared["spanish"].root)) == ["view LATERAL"]
    assert prepared["spanish"].labels == ["Cardiomegaly", "Pleural Effusion"]
    assert [row["label/Pleural Effusion"] for row in rows[:4]] == [0, None, -1, 1]
    assert [row["label/Cardiomegaly"] for row in rows[:2]] == [1, 0]
    assert {row["subject_id"] for row in rows} == {f"ñ{i}" for i in range(12)}
    assert Counter(row["split"] for row in rows) == {"train": 12, "validate": 5, "test": 6}
    assert list(prepared["spanish"].split_variants) == ["table"]


def test_boxed(prepared):
    rows = prepared["boxed"].index.to_pylist()
    assert len(rows) == 24
    assert rows[1]["boxes"][0] == {"name": "Nodule", "x1": 4, "y1": 5, "x2": 14, "y2": 13, "phrase": None}
    assert rows[2]["boxes"] == []
    assert [(row["label/Mass"], row["label/Nodule"]) for row in rows[:4]] == [(1, 0), (0, 1), (0, 0), (1, 1)]
    assert {row["subject_id"] for row in rows} == {str(i) for i in range(12)}
    assert list(prepared["boxed"].split_variants) == ["hash"]
    by_patient = {}
    for row in rows:
        assert by_patient.setdefault(row["subject_id"], row["split"]) == row["split"]


def test_nested(prepared):
    rows = prepared["nested"].index.to_pylist()
    assert len(rows) == 24
    # Names of studies that patients share; the rows are in any order.
    assert {row["study_id"] for row in rows} == {f"patient{i}/study{j}" for i in range(6) for j in range(2)}
    studies = [row["study_id"] for row in rows]
    assert len([i for i in range(24) if i == 0 or studies[i] != studies[i - 1]]) == 12
    assert all(row["path"].startswith(f"{row['study_id']}/view") for row in rows)
    assert prepared["nested"].labels == ["Cardiomegaly", "Edema", "No Finding"]
    assert all((row["label/Edema"] == 1) == row["study_id"].endswith("study0") for row in rows)


@pytest.mark.parametrize("name", STRANGERS)
def test_the_printed_command_does_the_same(name, raw, prepared, tmp_path, capsys, folder_bytes):
    main(["prepare", "table", *words(raw[name]), f"--out={tmp_path / 'out'}", *SMALL, "--dry_run"])
    assert not (tmp_path / "out").exists()
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if line.startswith("  medvlp prepare table")]
    assert "--image " in line or name == "german"
    assert not [line for line in printed if line.endswith("it is empty")]
    main(shlex.split(line)[1:])
    assert folder_bytes(tmp_path / "out") == folder_bytes(prepared[name].root)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_training_and_search(name, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clear_environment(monkeypatch, "WANDB_SILENT")
    language = make_language_model(tmp_path / "bert")
    root = prepared[name].root
    small = [*options(root, language), "--data.batch_size=2", "--trainer.logger=false", "--trainer.max_steps=2"]
    main(["fit", "-c", "imitate", *small, "--data.resize=null"])
    (weights,) = tmp_path.rglob("last.ckpt")
    out = tmp_path / "found.json"
    main(["search", str(root), "--weights", str(weights), "--text", "enlarged heart", "--top=3", "--out", str(out)])
    found = json.loads(out.read_text())
    assert len(found) == 3
    assert {hit["image_id"] for hit in found} <= set(prepared[name].index["image_id"].to_pylist())
