"""What all benchmarks rely on: frozen encoders, cached features, checkpoints without them, rows of test images."""

from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F

from medvlp.data import Augmentation, CXRDataModule
from medvlp.data.features import FeatureStore
from medvlp.errors import UserError
from medvlp.metrics import Statistic
from medvlp.models import TimmEncoder
from medvlp.tasks import ClassificationTask, DownstreamTask
from medvlp.trainer.command import main
from tests.support.processes import ForkedProcesses
from tests.support.runs import QUIET, UNCHANGED
from tests.support.tiny import make_prepared, options

RESNET, VIT = "test_resnet.r160_in1k", "test_vit.r160_in1k"
LABELS = ["Cardiomegaly", "Pleural Effusion"]


class Corner(DownstreamTask):
    """Where in the image the annotated mask is, from its coarsest maps."""

    reads = "maps"
    levels = slice(-3, None)

    def __init__(self, **kwargs):
        # A lambda, as the default is, does not reach a spawned process.
        super().__init__(optimizer=torch.optim.AdamW, **kwargs)
        self.head = nn.Linear(sum(self.widths), 1)

    def score(self, batch):
        return self.head(torch.cat([m.mean((2, 3)) for m in self.features(batch)], 1))[:, 0]

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.score(batch), batch["mask"].float().mean((1, 2, 3)) / 255)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, 0))

    def test_step(self, batch, batch_idx):
        score = self.score(batch)
        places = [[{"x": float(s)}] * (i % 2) for s, i in zip(score, batch["index"].tolist(), strict=True)]
        kind = pa.list_(pa.struct([("x", pa.float32())]))
        self.add_rows(batch, {"score": score, "places": pa.array(places, kind), "target": batch["mask"].sum((1, 2, 3))})

    def compute_metrics(self, rows):
        score = rows["score"].to_numpy()
        return {"mean": Statistic.of(lambda w: float(w @ score / w.sum()), len(rows))}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", 64, 40)


@pytest.fixture
def fresh(tmp_path):
    """A prepared folder without cached features."""
    return make_prepared(tmp_path / "prepared", 64, 40)


def module(root, **changes):
    chosen = {"batch_size": 8, "crop": 32, "num_workers": 0, "views": 1, "augmentation": UNCHANGED, "drop_last": False}
    return CXRDataModule(root, **(chosen | changes))


def probe(**changes):
    L.seed_everything(0)
    chosen = {"labels": LABELS, "weights": "random", "architecture": RESNET}
    return ClassificationTask(optimizer=partial(torch.optim.AdamW, lr=1e-2), **(chosen | changes))


def make_trainer(folder, epochs=1, **changes):
    return L.Trainer(
        max_epochs=epochs,
        **QUIET,
        default_root_dir=folder,
        **{"enable_checkpointing": False, **changes},
    )


@pytest.fixture
def encoded(monkeypatch):
    """Counts the images that encoders see."""
    seen = []

    def count(method):
        def counted(self, image):
            seen.append(len(image))
            return method(self, image)

        return counted

    monkeypatch.setattr(TimmEncoder, "forward", count(TimmEncoder.forward))
    monkeypatch.setattr(TimmEncoder, "maps", count(TimmEncoder.maps))
    return seen


class Modes(L.Callback):
    """Remembers which modules of the encoder train."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.training = {type(m).__name__ for m in pl_module.encoder.modules() if m.training}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["frozen", "adapted", "fine-tuned"])
def test_frozen_means_frozen(tmp_path, root, case):
    task = probe(freeze=case != "fine-tuned", adapt_batch_norm=case == "adapted")
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    modes = Modes()
    trainer = make_trainer(tmp_path, 2, callbacks=[modes])
    trainer.fit(task, module(root))
    changed = {name for name, value in task.encoder.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    parameters = {name for name, _ in task.encoder.named_parameters()}
    assert changed == {"frozen": set(), "adapted": statistics, "fine-tuned": statistics | parameters}[case]
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    encoder = {id(p) for p in task.encoder.parameters()}
    assert held & encoder == (encoder if case == "fine-tuned" else set())
    assert {id(p) for p in task.head.parameters()} <= held
    # A frozen encoder is in evaluation, the drop-outs of a transformer included, although the Trainer trains it.
    norms = {type(m).__name__ for m in task.encoder.modules() if isinstance(m, nn.BatchNorm2d)}
    assert modes.training == {"frozen": set(), "adapted": norms}.get(case, modes.training)
    assert norms <= modes.training or case == "frozen"
    # And in a test nothing adapts.
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    make_trainer(tmp_path).test(task, module(root), verbose=False)
    torch.testing.assert_close(dict(task.encoder.state_dict()), before, rtol=0, atol=0)


@pytest.mark.slow
def test_training_learns(tmp_path, root):
    losses = []
    for epochs in (1, 12):
        trainer = make_trainer(tmp_path, epochs)
        trainer.fit(probe(freeze=False), module(root))
        losses.append(trainer.callback_metrics["val/loss"].item())
    assert losses[1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["frozen", "adapted", "fine-tuned"])
def test_a_checkpoint_holds_what_weights_do_not_bring_back(tmp_path, root, case):
    options = {"freeze": case != "fine-tuned", "adapt_batch_norm": case == "adapted"}
    saver = ModelCheckpoint(tmp_path, filename="one")
    trainer = make_trainer(tmp_path, 1, enable_checkpointing=True, callbacks=[saver])
    trainer.fit(probe(**options), module(root))
    trainer.test(trainer.lightning_module, module(root), verbose=False)
    expected = trainer.lightning_module.predictions
    held = {name for name in torch.load(tmp_path / "one.ckpt", weights_only=False)["state_dict"] if "encoder." in name}
    if case == "frozen":
        assert not held
    elif case == "adapted":
        assert held
        assert all(
            "running" in name or "num_batches" in name or name.split(".")[-1] in ("mean", "std") for name in held
        )
    task = probe(**options)
    make_trainer(tmp_path).test(task, module(root), ckpt_path=tmp_path / "one.ckpt", weights_only=False, verbose=False)
    assert task.predictions.equals(expected)


def test_another_encoder_than_the_checkpoint_was_trained_with(tmp_path, root):
    trainer = make_trainer(tmp_path)
    trainer.fit(probe(), module(root))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    other = probe(architecture="test_resnet")
    with torch.no_grad():
        other.encoder.mean.fill_(3.0)
    path = tmp_path / "other.pth"
    torch.save(other.encoder.state_dict(), path)
    task = probe(weights=str(path))
    with pytest.raises(UserError, match=r"other\.pth' are not those that the checkpoint was trained with"):
        make_trainer(tmp_path).test(task, module(root), ckpt_path=tmp_path / "one.ckpt", weights_only=False)


@pytest.mark.slow
@pytest.mark.parametrize("cached", [False, True])
def test_resumed_training_equals_uninterrupted(tmp_path, root, cached):
    def run(epochs_until, folder, **fit):
        saver = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
        trainer = make_trainer(folder, 3, enable_checkpointing=True, callbacks=[saver])
        trainer.fit(task := probe(cache_features=cached), module(root, fraction=0.7), **fit)
        return task

    whole = run(3, tmp_path / "whole")
    steps = sorted((tmp_path / "whole").iterdir())
    assert len(steps) == 9  # 22 images in batches of 8, the last of 6
    for step in (3, 5):
        path = tmp_path / "whole" / f"step={step}.ckpt"
        resumed = run(3, tmp_path / f"from{step}", ckpt_path=path, weights_only=False)
        torch.testing.assert_close(dict(resumed.head.state_dict()), dict(whole.head.state_dict()))


@pytest.mark.parametrize(
    "make", [probe, partial(Corner, weights="random", architecture=RESNET)], ids=["pooled", "maps"]
)
def test_cached_features_are_what_the_encoder_sees(tmp_path, fresh, make):
    cached, plain = make(cache_features=True), make()
    plain.load_state_dict(cached.state_dict())
    targets = None if isinstance(cached, ClassificationTask) else "mask"
    features, expected = [], []
    for task, kept in ((cached, features), (plain, expected)):
        data = module(fresh, targets=targets)
        make_trainer(tmp_path).test(task, data, verbose=False)
        for batch in data.test_dataloader():
            with torch.no_grad():
                kept.append((batch["index"], *task.eval().features(batch)))
    for ours, theirs in zip(features, expected, strict=True):
        assert [f.shape for f in ours] == [f.shape for f in theirs]
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    for name in cached.statistics:
        assert cached.statistics[name].value == pytest.approx(plain.statistics[name].value, abs=1e-2)


@pytest.mark.slow
def test_cached_features_are_computed_once(tmp_path, fresh, encoded):
    def run(changes, **task):
        encoded.clear()
        trainer = make_trainer(tmp_path)
        trainer.fit(probe(cache_features=True, **task), module(fresh, **changes))
        trainer.test(trainer.lightning_module, module(fresh, **changes), verbose=False)
        return sum(encoded)

    # The images of a tenth, then those that are new in the half, and in the whole.
    assert run({"fraction": 0.1}) == 3 + 16 + 16
    assert run({"fraction": 0.5}) == 16 - 3
    assert run({}) == 32 - 16
    assert run({"fraction": 0.5, "subset_seed": 1, "seed": 3, "batch_size": 5}) == 0
    assert run({}, labels=["Cardiomegaly"]) == 0
    assert run({"crop": 24}) == 64
    assert run({}, architecture="test_efficientnet.r160_in1k") == 64
    assert run({"resize": 36}) == 64


def test_a_cache_that_was_interrupted_is_completed(tmp_path, fresh, encoded, monkeypatch):
    monkeypatch.setattr(FeatureStore.fill, "__defaults__", (10,))
    task = probe(cache_features=True)
    encode, calls = task.encode_images, []

    def failing(image):
        calls.append(len(image))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(image)

    task.encode_images = failing
    with pytest.raises(SystemExit):
        make_trainer(tmp_path).fit(task, module(fresh))
    encoded.clear()
    losses = []
    for cached in (True, False):
        trainer = make_trainer(tmp_path)
        trainer.fit(probe(cache_features=cached), module(fresh))
        losses.append(trainer.callback_metrics["val/loss"].item())
        if cached:
            assert sum(encoded) == 32 + 16 - 20
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_cached_batches_hold_all_but_the_images(tmp_path, fresh):
    (folder := tmp_path / "run").mkdir()
    for targets in (None, "mask", "box"):
        # The whole image, since training's random crop is the centre where features are stored.
        data, plain = (module(fresh, targets=targets, crop=40) for _ in range(2))
        make_trainer(folder).fit(probe(cache_features=True), data)
        for ours, theirs in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
            assert ours.keys() == theirs.keys()
            assert ours["image"].shape == (len(theirs["image"]), 1, 0, 0)
            assert ours["feature"][0].dtype == torch.float16
            assert theirs["feature"] is None
            for key in ours.keys() - {"image", "feature"}:
                torch.testing.assert_close(ours[key], theirs[key]) if torch.is_tensor(ours[key]) else None
                if isinstance(ours[key], list) and key != "box":
                    assert ours[key] == theirs[key]
            for a, b in zip(ours["box"] or [], theirs["box"] or [], strict=True):
                torch.testing.assert_close(a, b)


def test_a_full_disk_is_said_before_it_is_full(tmp_path, fresh, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"the features of the images need 0\.0 GB in .*features"):
        make_trainer(tmp_path).fit(probe(cache_features=True), module(fresh))


@pytest.mark.parametrize("changes", [{"freeze": False}, {"adapt_batch_norm": True}])
def test_features_that_change_are_not_cached(changes):
    with pytest.raises(UserError, match=f"cache_features=True, but with {next(iter(changes))}"):
        probe(cache_features=True, **changes)


def test_augmented_images_are_not_cached(tmp_path, root):
    with pytest.raises(UserError, match="augmentation"):
        make_trainer(tmp_path).fit(probe(cache_features=True), module(root, augmentation=Augmentation()))


def test_rows_do_not_depend_on_the_batch_size(tmp_path, root):
    names = module(root).dataset("test").image_id.to_pylist()
    tables = []
    for batch_size in (3, 16):
        task = Corner(weights="random", architecture=RESNET)
        task.head.weight.data.fill_(0.1)
        task.head.bias.data.zero_()
        make_trainer(tmp_path).test(task, module(root, batch_size=batch_size, targets="mask"), verbose=False)
        tables.append(task.predictions)
        assert task.predictions.column_names == ["image_id", "score", "places", "target"]
        assert task.predictions["image_id"].to_pylist() == names
        assert len(task.statistics["mean"].replicates) == 1000
        assert task.trainer.callback_metrics["test/mean"] == pytest.approx(task.statistics["mean"].value)
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], rtol=1e-5)
    assert [len(places) for places in tables[0]["places"].to_pylist()] == [i % 2 for i in range(len(names))]


class WriteRows(L.Callback):
    """Writes what each process knows after the test."""

    def on_test_end(self, trainer, pl_module):
        pq.write_table(pl_module.predictions, Path(trainer.default_root_dir, f"{trainer.global_rank}.parquet"))


@pytest.mark.slow
def test_two_processes_gather_the_rows_of_one(tmp_path, root):
    task = {"weights": "random", "architecture": RESNET}
    results, tables = [], []
    for devices in (2, 1):
        torch.manual_seed(0)
        folder = tmp_path / str(devices)
        folder.mkdir()
        strategy = ForkedProcesses() if devices > 1 else "auto"
        trainer = make_trainer(folder, devices=devices, strategy=strategy, callbacks=[WriteRows()])
        # The first has not been looked at: of 31 images a process gets one twice.
        data = module(root, targets="mask", batch_size=4, split="halves", test_splits=["train"])
        (result,) = trainer.test(Corner(cache_features=True, **task), data, verbose=False)
        results.append(result)
        tables += [pq.read_table(folder / f"{rank}.parquet") for rank in range(devices)]
    first, second, one = tables
    assert first.equals(second)
    assert len(one) == 31
    for name in ("image_id", "target"):
        assert first[name].equals(one[name])
    np.testing.assert_allclose(first["score"], one["score"], rtol=1e-4)
    assert results[0] == pytest.approx(results[1], rel=1e-4)


CONFIG = {
    "model": {
        "class_path": "ClassificationTask",
        "init_args": {"weights": "random", "architecture": RESNET, "labels": LABELS, "cache_features": True},
    },
    "trainer": {
        "max_epochs": 2,
        "logger": False,
        "callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "saved", "save_last": True}}],
    },
    "data": {"views": 1, "augmentation": {name: 0 for name in vars(UNCHANGED)}},
}


@pytest.mark.slow
def test_the_command_line_fits_tests_and_resumes(tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.yaml").write_text(yaml.safe_dump(CONFIG))
    tiny = options(root)
    fitted = main(["fit", "-c", "probe.yaml", *tiny])
    tested = main(["test", "-c", "probe.yaml", "--ckpt_path", "saved/last.ckpt", *tiny])
    torch.testing.assert_close(tested.lightning_module.head.weight, fitted.lightning_module.head.weight)
    assert "test/auroc" in tested.callback_metrics
    resumed = main(["fit", "-c", "probe.yaml", "--ckpt_path", "saved/last.ckpt", "--trainer.max_epochs=3", *tiny])
    assert resumed.current_epoch == 3
    with pytest.raises(UserError, match="weights = 'random' there, 'imagenet' here"):
        main(["fit", "-c", "probe.yaml", "--ckpt_path", "saved/last.ckpt", "--model.weights=imagenet", *tiny])


def test_a_transformer_of_another_size(tmp_path, root):
    task = probe(architecture=VIT, image_size=32)
    make_trainer(tmp_path).test(task, module(root), verbose=False)
    assert len(task.predictions) == 16
