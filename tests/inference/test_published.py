"""Published pairs of encoders go through benchmarks, search, predictions and heat maps as checkpoints do."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import medvlp
from medvlp.__main__ import main
from medvlp.errors import UserError
from medvlp.export.command import export
from medvlp.models.published import fingerprint, origin, short_name
from medvlp.prepared import Prepared
from tests.support.pairs import make_clip, make_open_clip, make_siglip
from tests.support.runs import clear_environment
from tests.support.tiny import make_prepared, refit

pytestmark = pytest.mark.slow

NAME = "open_clip:models/clip"
WEIGHTS = Path("models/clip/open_clip_model.safetensors")
TINY = "--model.labels [Cardiomegaly] --data.num_workers 0 --trainer.accelerator cpu --trainer.logger false"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("rsna", "open_i"):
        make_prepared(folder / "data" / name)
    (folder / "models").mkdir()
    make_open_clip(folder / "models" / "clip", "clip")
    make_siglip(folder / "models" / "siglip")
    return folder


@pytest.fixture(autouse=True)
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    clear_environment(monkeypatch, "WANDB_SILENT")
    monkeypatch.setenv("WANDB_MODE", "offline")


def results(benchmark, way):
    (path,) = Path("runs/benchmarks", benchmark).glob(f"*/{way}/results.json")
    return path.parent, json.loads(path.read_text())


def test_zero_shot_of_a_name(capsys):
    main(["benchmark", "zeroshot-rsna", "--weights", NAME, "--protocols", "medvlp", "--args", TINY])
    out = " ".join(capsys.readouterr().out.split())
    sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    folder, found = results("zeroshot-rsna", "medvlp")
    assert folder.parent.name == f"clip-{sha256[:8]}"
    assert found["weights_sha256"] == fingerprint(NAME) == sha256
    assert found["weights_origin"] == f"{WEIGHTS.name} of {WEIGHTS.parent.resolve()}"
    assert (found["protocol"]["weights"], found["protocol"]["crop"], found["protocol"]["resize"]) == (NAME, 32, 32)
    assert 0 <= found["metrics"]["auroc"]["value"] <= 1
    assert "what the weights were trained on is not known" in found["notes"][0]
    assert found["weights_origin"] in found["notes"][1]
    assert f"auroc {found['metrics']['auroc']['value']:.3f}" in out
    # The scores are those of the pair itself.
    model, prepared = medvlp.load(NAME), Prepared.open("data/rsna")
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    images = dict(zip(prepared.index["image_id"].to_pylist(), prepared.images, strict=True))
    from medvlp.data.transforms import EvaluationTransform

    transform = EvaluationTransform(32, found["protocol"]["resize"])
    seen = [transform(images[row["image_id"]], np.zeros((0, 4), np.float32), 0).image for row in rows]
    scores = model.scores(torch.from_numpy(np.stack(seen)), ["Cardiomegaly"], "medvlp")[:, 0]
    assert [row["score/Cardiomegaly"] for row in rows] == pytest.approx(scores.tolist(), abs=1e-6)


def test_retrieval_and_linear_probe_of_a_name():
    args = "--data.num_workers 0 --trainer.accelerator cpu --trainer.logger false"
    main(["benchmark", "retrieval-open-i", "--weights", "hf:models/siglip", "--args", args])
    _, found = results("retrieval-open-i", "test")
    assert found["metrics"]["i2t_R@5"]["value"] >= 0
    probe = f"{TINY} --data.crop 32 --data.batch_size 8 --trainer.precision 32-true --trainer.max_epochs 1"
    main(["benchmark", "rsna", "--weights", NAME, "--fractions", "100", "--seeds", "0", "--args", probe])
    _, found = results("rsna", "100-0")
    assert found["weights_sha256"] == fingerprint(NAME)


def test_heat_maps_where_places_are_compared_with_texts():
    args = f"{TINY.replace('--model.labels [Cardiomegaly] ', '')} --data.targets box"
    main(["benchmark", "grounding-rsna", "--weights", "hf:models/siglip", "--args", args])
    _, found = results("grounding-rsna", "best")
    assert "pointing" in found["metrics"]
    with pytest.raises(SystemExit):
        main(["benchmark", "grounding-rsna", "--weights", NAME, "--args", args])
    model = medvlp.load("hf:models/siglip")
    image = torch.from_numpy(Prepared.open("data/rsna").images[3][:32, :32].copy())
    assert model.heat_map(image, "cardiomegaly").shape == (2, 2)
    with pytest.raises(UserError, match="no heat maps"):
        medvlp.load(NAME).heat_map(image, "cardiomegaly")


def test_search_and_predictions(tmp_path):
    model, prepared = medvlp.load(NAME), Prepared.open("data/open_i")
    main(["search", "data/open_i", "--weights", NAME, "--text", "cardiomegaly", "--out", str(tmp_path / "out.csv")])
    with (tmp_path / "out.csv").open() as file:
        first = next(csv.DictReader(file))
    Image.fromarray(prepared.images[5]).save(tmp_path / "image.png")
    seen = model.read_many([tmp_path / "image.png"])
    expected = model.embedding(seen) @ model.text_embedding(["cardiomegaly"]).T
    assert -1 <= float(first["score"]) <= 1
    out = tmp_path / "out.parquet"
    main(["predict", str(tmp_path / "image.png"), "--weights", NAME, "--out", str(out), "--embeddings", "true"])
    table = pq.read_table(out)
    assert table.schema.metadata[b"weights_sha256"].decode() == fingerprint(NAME)
    embedding = torch.tensor(table["embedding"].to_pylist())
    torch.testing.assert_close(embedding @ model.text_embedding(["cardiomegaly"]).T, expected)


def test_other_images_are_refused_with_the_options_to_prepare():
    folder = make_prepared(Path("data/oblong"))
    refit(folder, "pad")
    with pytest.raises(SystemExit):
        main(["search", str(folder), "--weights", NAME, "--text", "cardiomegaly"])
    with pytest.raises(UserError, match="--size 32 --resize crop: prepare the data with these options"):
        medvlp.load(NAME).preprocessing.check(Prepared.open(folder))


def test_a_published_pair_is_not_exported(tmp_path):
    with pytest.raises(UserError, match="is published already"):
        export(Path(NAME), out=tmp_path / "out")


def test_where_weights_are_from(tmp_path, monkeypatch):
    snapshot = tmp_path / "hub/models--owner--pair/snapshots/0123456789abcdef"
    snapshot.parent.mkdir(parents=True)
    make_clip(snapshot)
    assert origin(f"hf:{snapshot}") == "model.safetensors of owner/pair at revision 0123456789abcdef"
    names = {
        "hf:google/medsiglip-448": "medsiglip-448",
        "open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256": "BiomedCLIP-PubMedBERT_256",
        "open_clip:ViT-B-16-SigLIP/webli": "ViT-B-16-SigLIP-webli",
        "open_clip:models/clip": "clip",
        "biovil-t": "biovil-t",
        "biovil-t:some/folder": "biovil-t",
    }
    for name, short in names.items():
        assert short_name(name) == short
