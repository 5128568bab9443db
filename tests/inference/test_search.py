"""`medvlp search`: the nearest studies, against comparing all pairs, and what it refuses."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from medvlp.__main__ import main
from medvlp.data.features import FeatureStore
from medvlp.data.transforms import EvaluationTransform
from medvlp.errors import UserError
from medvlp.inference.model import Model
from medvlp.inference.neighbours import nearest, open_index
from medvlp.inference.search import search
from medvlp.models.weights import fingerprint
from medvlp.prepared import INDEX, Prepared
from tests.support.tiny import make_prepared
from tests.support.trained import make_checkpoint

NO_BOXES = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(tmp_path):
    return make_prepared(tmp_path / "data")


def similarity(folder, weights, query):
    """Compare everything, one image after the other."""
    model, prepared = Model.load(weights), Prepared.open(folder)
    transform = EvaluationTransform(32, 40)
    images = [torch.from_numpy(transform(image, NO_BOXES, 0).image.copy()) for image in prepared.images]
    given = model.text_embedding([query]) if isinstance(query, str) else model.embedding(model.read_many([query]))
    return np.array([(model.embedding(image[None]) @ given.T).item() for image in images])


def found(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["left pleural effusion", "cardiomegaly"])
def test_the_nearest_to_a_text(folder, weights, tmp_path, text):
    search(folder, weights=weights, text=text, top=5, out=tmp_path / "out.csv")
    score = similarity(folder, weights, text)
    rows = found(tmp_path / "out.csv")
    assert [row["image_id"] for row in rows] == [f"image{i}" for i in np.argsort(-score)[:5]]
    assert [row["rank"] for row in rows] == list("12345")
    # Embeddings are kept in half precision.
    assert [float(row["score"]) for row in rows] == pytest.approx(np.sort(score)[::-1][:5], abs=2e-3)


def test_an_image_finds_itself(folder, weights, tmp_path):
    Image.fromarray(Prepared.open(folder).images[7]).save(tmp_path / "image.png")
    out = tmp_path / "out.json"
    options = ["--weights", str(weights), "--image", str(tmp_path / "image.png"), "--out", str(out), "--top", "2"]
    main(["search", str(folder), *options])
    rows = json.loads(out.read_text())
    assert (rows[0]["image_id"], rows[0]["study_id"], rows[0]["split"]) == ("image7", "study7", "test")
    assert rows[0]["score"] == pytest.approx(1, abs=2e-3)
    assert len(rows) == 2


def test_labels_are_those_that_are_present_or_uncertain(folder, weights, tmp_path):
    search(folder, weights=weights, text="effusion", top=48, out=tmp_path / "out.csv")
    index = {row["image_id"]: row for row in pq.read_table(folder / INDEX).to_pylist()}
    for row in found(tmp_path / "out.csv"):
        own = index[row["image_id"]]
        wanted = ["Cardiomegaly"] * (own["label/Cardiomegaly"] == 1)
        wanted += ["Pleural Effusion"] * (own["label/Pleural Effusion"] == 1)
        wanted += ["Support Devices?"] * (own["label/Support Devices"] == -1)
        assert row["labels"] == ";".join(wanted)


def test_splits_are_searched_alone(folder, weights, tmp_path):
    search(folder, weights=weights, text="effusion", top=99, splits="test, validate", out=tmp_path / "out.csv")
    rows = found(tmp_path / "out.csv")
    assert {row["split"] for row in rows} == {"test", "validate"}
    assert len(rows) == 24


@pytest.mark.slow
def test_embeddings_are_computed_once_for_each_model(folder, weights, tmp_path, monkeypatch):
    computed = []
    fill = FeatureStore.fill

    def count(store, rows, encode):
        fill(store, rows, lambda chunk: computed.append(len(chunk)) or encode(chunk))

    monkeypatch.setattr(FeatureStore, "fill", count)
    search(folder, weights=weights, text="effusion", splits="test", out=tmp_path / "a.csv")
    assert computed == [12]
    search(folder, weights=weights, text="effusion", out=tmp_path / "b.csv")
    assert computed == [12, 36]
    search(folder, weights=weights, text="effusion", out=tmp_path / "c.csv")
    assert computed == [12, 36]
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "c.csv").read_text()
    search(folder, weights=make_checkpoint(tmp_path, seed=1), text="effusion")
    assert computed == [12, 36, 48]


def test_a_study_comes_once_by_its_best_image():
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.9], np.float32)
    assert nearest(score, ["a", "b", "b", "c", "d"], 3) == [1, 4, 3]
    assert nearest(score, ["a", "b", "b", "c", "d"], 9) == [1, 4, 3, 0]


@pytest.mark.slow
def test_reports_are_shown_only_if_asked_for_and_never_written(folder, weights, tmp_path, capsys):
    options = {"weights": weights, "text": "effusion", "top": 48, "out": tmp_path / "out.json"}
    search(folder, **options)
    assert "there is" not in capsys.readouterr().out
    search(folder, **options, show_reports=True)
    printed = " ".join(capsys.readouterr().out.split())
    for row in pq.read_table(folder / INDEX).to_pylist():
        assert f"{row['study_id']}: {row['findings'] or row['impression']}" in printed
    assert "there is" not in (tmp_path / "out.json").read_text()


@pytest.mark.slow
def test_what_predict_has_written_can_be_searched(folder, weights, tmp_path):
    model = Model.load(weights)
    images = torch.from_numpy(np.array(Prepared.open(folder).images[:, 4:36, 4:36]))
    vectors = model.embedding(images)
    listed = pa.FixedSizeListArray.from_arrays(vectors.flatten().numpy(), vectors.shape[1])
    skipped = [i % 5 == 0 for i in range(48)]
    columns = {
        "path": [f"{i}.png" for i in range(48)],
        "status": ["skipped" if skip else "ok" for skip in skipped],
        "embedding": pc.if_else(pa.array(skipped), None, listed),
    }
    table = pa.table(columns).replace_schema_metadata({"weights_sha256": fingerprint(str(weights))})
    pq.write_table(table, tmp_path / "predicted.parquet", row_group_size=7)
    search(tmp_path / "predicted.parquet", weights=weights, text="cardiomegaly", top=4, out=tmp_path / "out.csv")
    score = similarity(folder, weights, "cardiomegaly")
    best = [i for i in np.argsort(-score) if i % 5][:4]
    assert [row["path"] for row in found(tmp_path / "out.csv")] == [f"{i}.png" for i in best]
    with pytest.raises(UserError, match="were not made with --weights"):
        search(tmp_path / "predicted.parquet", weights=make_checkpoint(tmp_path, names=("hierarchical",)), text="a")
    with pytest.raises(UserError, match="show_reports"):
        search(tmp_path / "predicted.parquet", weights=weights, text="a", show_reports=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either --text or --image"),
        ({"text": "a", "image": "b.png"}, "give either --text or --image"),
        ({"text": "  "}, "give either --text or --image"),
        ({"text": "a", "top": 0}, "must be at least 1"),
        ({"text": "a", "out": "out.txt"}, r"must end in \.csv or \.json"),
        ({"text": "a", "splits": "tset"}, "no image of .* is in tset; its splits are"),
        ({"image": "none.png"}, "no such file"),
    ],
)
def test_errors_say_what_is_wrong(folder, weights, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    given = {name: Path(value) if name in ("image", "out") else value for name, value in options.items()}
    with pytest.raises(UserError, match=words):
        search(folder, weights=weights, **given)


def test_folders_that_are_not_prepared_are_refused(folder, weights, tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"no prepared folder.*medvlp predict"):
        open_index(tmp_path / "images", weights, [])
    with pytest.raises(UserError, match="not a prepared folder"):
        open_index(tmp_path / "nowhere", weights, [])
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="no parquet file"):
        open_index(tmp_path / "text.parquet", weights, [])
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="holds no embeddings"):
        open_index(tmp_path / "other.parquet", weights, [])


def test_images_that_are_too_small_are_refused(weights, tmp_path):
    with pytest.raises(UserError, match="prepared with --size 36"):
        search(make_prepared(tmp_path / "small", size=36), weights=weights, text="effusion")


@pytest.mark.slow
def test_models_without_a_joint_space_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="no joint space"):
        search(folder, weights=make_checkpoint(tmp_path, names=("region",)), text="effusion")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error(folder, weights):
    folder.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        search(folder, weights=weights, text="effusion")
