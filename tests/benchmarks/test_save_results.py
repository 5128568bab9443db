"""What `medvlp test` of a downstream task leaves behind."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from medvlp.__main__ import main
from medvlp.benchmarks.results import read_cells, summarise
from medvlp.models.weights import fingerprint
from tests.support.runs import clear_environment
from tests.support.tiny import make_prepared

pytestmark = pytest.mark.slow

OPTIONS = shlex.split(
    "-c classification/rsna --model.weights random --model.architecture test_resnet --model.labels [Cardiomegaly] "
    "--data.root data --data.crop 32 --data.batch_size 8 --data.num_workers 0 --trainer.accelerator cpu "
    "--trainer.precision 32-true --trainer.logger false --trainer.max_epochs 1 --trainer.default_root_dir run "
    "--trainer.enable_progress_bar false"
)
HALF = ["--data.fraction", "0.5", "--data.subset_seed", "3"]


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """A folder with tiny data and the checkpoint of a fit on half of them."""
    monkeypatch.chdir(tmp_path)
    clear_environment(monkeypatch)
    make_prepared(tmp_path / "data")
    main(["fit", *OPTIONS, *HALF, "--seed_everything", "7"])
    (checkpoint,) = tmp_path.rglob("best.ckpt")
    return checkpoint


def test_results_of_a_run(fitted, capsys):
    main(["test", *OPTIONS, *HALF, "--seed_everything", "7", "--ckpt_path", str(fitted)])
    content = json.loads(Path("run/results.json").read_text())
    assert (content["benchmark"], content["task"], content["seed"]) == ("rsna", "ClassificationTask", 7)
    assert (content["fraction"], content["subset_seed"], content["n_train"]) == (0.5, 3, 12)
    assert (content["how"], content["n_test"]) == ("linear probe", 12)
    protocol = content["protocol"]
    assert (protocol["weights"], protocol["architecture"], protocol["freeze"]) == ("random", "test_resnet", True)
    assert (protocol["crop"], protocol["max_epochs"], protocol["patience"]) == (32, 1, 10)
    assert protocol["augmentation"] is None  # features are cached
    data = content["data"]
    assert data["counts"] == {"train": 24, "validate": 12, "test": 12}
    assert (data["split"], data["synthetic"], data["root"]) == ("quarters", False, str(Path("data").resolve()))
    assert data["options"] == {"dataset": "tiny", "size": 40, "resize": "pad"}
    names = Path("run/subset.csv").read_text().split()[1:]
    assert len(names) == 12
    lines = "".join(f"{name}\n" for name in sorted(names))
    assert content["subset_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    auroc = content["metrics"]["auroc"]
    assert auroc["low"] <= auroc["value"] <= auroc["high"]
    assert set(pq.read_table("run/predictions.parquet").column_names) == {
        "image_id",
        "target/Cardiomegaly",
        "score/Cardiomegaly",
    }
    assert not list(Path("run").glob("*.tmp"))
    # A run by hand has a row in the table, too.
    (benchmark,) = summarise(read_cells(Path())[0])
    assert benchmark.rows[0].label == "random"


def test_a_checkpoint_is_not_tested_as_if_it_had_seen_other_images(fitted, capsys):
    with pytest.raises(SystemExit) as end:
        main(["test", *OPTIONS, "--ckpt_path", str(fitted)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "trained with data.fraction=0.5 and data.subset_seed=3 on 12 images, the config says 1.0 and 0, 24" in error
    assert not Path("run/results.json").exists()


def test_labels_that_cannot_be_counted_are_listed(fitted, capsys):
    options = [word if word != "[Cardiomegaly]" else "[Cardiomegaly, Support Devices]" for word in OPTIONS]
    with pytest.warns(UserWarning, match="left out of the mean"):
        main(["test", *options])
    content = json.loads(Path("run/results.json").read_text())
    assert content["left_out"] == {"Support Devices": "no positive"}
    assert content["metrics"]["auroc"]["counted"] == {"n": 1, "of": 2, "what": "labels"}
    # Beside the figure, wherever it is.
    main(["results", "."])
    figure = f"{100 * content['metrics']['auroc']['value']:.1f}"
    out = capsys.readouterr().out
    place = out.index("1 of 2 labels")
    assert figure in out[:place]
    assert re.search(rf"\| {figure} \[[^|]*\], 1 of 2 labels \|", Path("results.md").read_text())
    page = Path("results.html").read_text()
    assert f"{figure}, 1 of 2 labels" in page  # the overview
    assert re.search(rf"{figure}<small>\[[^<]*\], 1 of 2 labels</small>", page)


def test_fingerprint(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    digest = hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    assert fingerprint(str(tmp_path / "w.pt")) == digest
    assert fingerprint("imagenet") is None
