"""Zero-shot evaluation of a checkpoint through the command line."""

import functools
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import wandb
from lightning.pytorch import Callback, Trainer
from tiny import make_language_model, make_prepared, options

from medvlp.__main__ import main
from medvlp.callbacks import SavePredictions
from medvlp.cli import WANDB_PRIVACY
from medvlp.data import CXRDataModule
from medvlp.models import ImageEncoder
from medvlp.tasks.zeroshot import load_pretraining


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory):
    """A folder with tiny data in which a model was pre-trained, and an environment that is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("WANDB_MODE", "offline")
        for name in (*WANDB_PRIVACY, "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "put back afterwards")
            patch.delenv(name)
        make_prepared(Path("data"))
        make_language_model(Path("bert"))
        # The encoder starts from a file, which is gone when the checkpoint is evaluated.
        weights = "--model.image_encoder.init_args.weights"
        image = ImageEncoder("test_resnet.r160_in1k", pretrained=False)
        torch.save(image.backbone.state_dict(), "start.pth")
        main(
            [
                "fit",
                "-c",
                "imitate",
                *options(Path("data"), Path("bert")),
                f"{weights}=start.pth",
                "--trainer.max_epochs=1",
            ]
        )
        wandb.finish()
        Path("start.pth").rename("moved.pth")
        yield
        wandb.finish()


@pytest.fixture
def checkpoint():
    (path,) = Path("runs/medvlp").glob("*/checkpoints/last.ckpt")
    return path


class Results(Callback):
    """Remembers what a test logged."""

    def __init__(self):
        self.metrics = {}

    def on_test_end(self, trainer, pl_module):
        self.metrics = {name: value.item() for name, value in trainer.logged_metrics.items()}


@pytest.fixture
def results(monkeypatch):
    """The metrics of the last test."""
    callback = Results()
    plain = Trainer.test

    @functools.wraps(plain)  # the command line reads the signature
    def test(self, *args, **kwargs):
        self.callbacks.append(callback)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "test", test)
    return callback


def zeroshot(*arguments, config="zeroshot/mimic_cxr"):
    main(["test", "-c", config, *options(Path("data")), "--trainer.logger=false", *map(str, arguments)])


def test_gives_the_figures_of_the_pre_training(checkpoint, results):
    os.rename("moved.pth", "start.pth")
    try:
        config = checkpoint.parents[1] / "config.yaml"
        main(["test", "-c", str(config), f"--ckpt_path={checkpoint}", "--trainer.logger=false"])
    finally:
        os.rename("start.pth", "moved.pth")
    expected = results.metrics
    assert {"test/zeroshot/macro", "test/retrieval/report/i2t_R@5"} <= set(expected)
    for config in ("zeroshot/mimic_cxr", "zeroshot/open_i"):
        # Neither the order of the batches nor the file that training began with matters.
        zeroshot(f"--model.weights={checkpoint}", "--data.batch_size=5", config=config)
        assert results.metrics == pytest.approx(expected, abs=1e-6)


def test_prediction_runs(checkpoint):
    # Here, because a loader is rebuilt for prediction alone.
    task, data = load_pretraining(checkpoint), CXRDataModule(Path("data"), batch_size=5, crop=32, num_workers=0)
    batches = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).predict(task, data)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(12))
    assert {key for batch in batches for key in batch} == {"index", "hierarchical/findings", "hierarchical/impression"}


def test_predictions_are_written(checkpoint, tmp_path):
    task, data = load_pretraining(checkpoint), CXRDataModule(Path("data"), batch_size=5, crop=32, num_workers=0)
    writer = SavePredictions(tmp_path / "out")
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[writer])
    batches = trainer.predict(task, data)
    table = pq.read_table(tmp_path / "out" / "predictions-0.parquet")
    assert table["image_id"].to_pylist() == data.dataset("test").image_id.to_pylist()
    embedded = torch.cat([batch["hierarchical/findings"] for batch in batches])
    torch.testing.assert_close(torch.tensor(table["hierarchical/findings"].to_pylist()), embedded)


def test_prompts_are_an_option(checkpoint, results):
    zeroshot(f"--model.weights={checkpoint}")
    usual = results.metrics
    zeroshot(
        f"--model.weights={checkpoint}", '--model.prompts.positive=["no {}"]', '--model.prompts.negative=["large {}"]'
    )
    assert results.metrics["test/zeroshot/macro"] != usual["test/zeroshot/macro"]
    assert results.metrics["test/retrieval/report/i2t_R@5"] == usual["test/retrieval/report/i2t_R@5"]


def test_it_has_the_weights_of_the_checkpoint(checkpoint):
    task = load_pretraining(checkpoint)
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in task.state_dict().items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, stored[name], rtol=0, atol=0)


def foreign(path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(3)}, "hyper_parameters": {}}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "no such file"),
        (lambda path: path.write_bytes(b"no weights"), "is no checkpoint of 'medvlp fit'"),
        (lambda path: path.write_bytes(b""), "is no checkpoint of 'medvlp fit'"),
        (lambda path: torch.save(torch.zeros(3), path), "is no checkpoint of 'medvlp fit'"),
        (foreign, "is no checkpoint of 'medvlp fit'"),
    ],
)
def test_another_file_is_refused_in_one_line(make, message, capsys):
    path = Path("other.ckpt")
    path.unlink(missing_ok=True)
    if make:
        make(path)
    with pytest.raises(SystemExit) as end:
        zeroshot(f"--model.weights={path}")
    assert end.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert message in error[0]
    assert str(path) in error[0]


def test_weights_are_needed(capsys):
    with pytest.raises(SystemExit):
        zeroshot()
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "weights" in error


def test_nothing_that_a_run_sends_holds_a_report(checkpoint):
    files = [path for path in Path("runs/wandb").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in [*files, checkpoint.parents[1] / "config.yaml"]:
        content = path.read_bytes()
        for text in (b"pleural effusion .", b"cardiomegaly .", b"image1", b"study1", b"subject1"):
            assert text not in content, path
