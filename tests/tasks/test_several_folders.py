"""Pre-training on several folders: resumed, on two processes, validated by folder, audited, described."""

from functools import partial

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.models.text_cache import TextCache
from medvlp.objectives import GlobalAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.prepared import INDEX
from medvlp.tasks import ClassificationTask, PretrainingTask
from medvlp.tasks.continued import lineage
from medvlp.tasks.seen import seen_in_training
from medvlp.trainer.callbacks import Throughput
from tests.support.processes import relative_error
from tests.support.runs import QUIET
from tests.support.tiny import make_prepared
from tests.tasks.test_pretraining import IMITATE, make_task, make_trainer

pytestmark = pytest.mark.slow

WEIGHTS = (1.0, 0.5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of 24 and 12 training images, of different data sets; each image has a patient of its own."""
    place = tmp_path_factory.mktemp("folders")
    made = [make_prepared(place / "one"), make_prepared(place / "two", 24, seed=5, labels=["Pleural Effusion", "Mass"])]
    for root in made:
        table = pq.read_table(root / INDEX)
        rows = [{**row, "subject_id": f"subject{row['row']}"} for row in table.to_pylist()]
        pq.write_table(type(table).from_pylist(rows, table.schema), root / INDEX)
    manifest = made[1] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"other"'))
    return made


def data_of(folders, weights=WEIGHTS, **options):
    root = dict(zip(map(str, folders), weights, strict=True))
    return CXRDataModule(root, **{"batch_size": 6, "crop": 32, "num_workers": 0, **options})


@pytest.mark.parametrize("step", [6, 8])  # the end of an epoch of six batches, and the middle of the next
def test_resumed_training_equals_uninterrupted(tmp_path, folders, language, step):
    whole, losses = make_trainer(tmp_path / "whole", 2)
    whole.fit(make_task(language), data_of(folders))
    assert len(losses) == 12
    task = make_task(language)
    torch.manual_seed(99)
    resumed, rest = make_trainer(tmp_path / "resumed", 2)
    checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
    resumed.fit(task, data_of(folders), ckpt_path=checkpoint, weights_only=False)
    assert rest == pytest.approx(losses[step:], rel=1e-6)


def test_two_processes_equal_one(tmp_path, folders, language):
    trained = []
    for devices, batch_size in ((2, 3), (1, 6)):
        L.seed_everything(0)
        task = PretrainingTask(
            TimmEncoder("test_vit.r160_in1k", pretrained=False, image_size=32),
            HFTextEncoder(str(language)),
            {"report": partial(GlobalAlignment, dim=16, hidden=24)},
            optimizer=partial(torch.optim.SGD, lr=1e-4),
        )
        parameters = dict(task.named_parameters())
        if not trained:
            trained.append({k: v.detach().clone() for k, v in parameters.items()})
        strategy = "ddp_spawn" if devices > 1 else "auto"
        trainer = L.Trainer(**QUIET, max_steps=3, devices=devices, strategy=strategy, default_root_dir=tmp_path)
        trainer.fit(task, data_of(folders, batch_size=batch_size))
        trained.append({k: v.detach() for k, v in parameters.items()})
    start, two, one = (torch.cat([v.flatten() for k, v in sorted(state.items())]) for state in trained)
    assert relative_error(two - start, one - start) < 1e-4


@pytest.fixture(scope="module")
def run(folders, language, tmp_path_factory):
    """A run of one epoch with its logs."""
    folder = tmp_path_factory.mktemp("run")
    task = make_task(language)
    trainer = L.Trainer(
        **{**QUIET, "logger": CSVLogger(folder)},
        max_epochs=1,
        log_every_n_steps=3,
        default_root_dir=folder,
        callbacks=[Throughput()],
    )
    trainer.fit(task, data_of(folders))
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder, trainer, {key: float(value) for key, value in trainer.callback_metrics.items()}


def test_validation_is_joint_and_by_folder(run, folders, tmp_path):
    _, trainer, metrics = run
    for number, (root, name) in enumerate(zip(folders, ("one", "two"), strict=True)):
        alone = L.Trainer(**QUIET)
        data = CXRDataModule(root, 6, 32, num_workers=0, text_cache=tmp_path)
        (logged,) = alone.validate(trainer.lightning_module, data, verbose=False)
        names = [key for key in logged if not key.startswith("val/quality")]
        assert {"val/loss", "val/retrieval/report/i2t_R@1", "val/hierarchical/multi_text"} <= {*names}, number
        for key in names:
            mine = metrics[key.replace("val/", f"val/{name}/", 1)]
            assert mine == pytest.approx(logged[key], rel=1e-4, nan_ok=True), key
    images = [12, 6]
    joint = sum(n * metrics[f"val/{name}/loss"] for n, name in zip(images, ("one", "two"), strict=True)) / 18
    assert metrics["val/loss"] == pytest.approx(joint, rel=1e-5)
    # There are more reports to confuse with.
    assert metrics["val/retrieval/report/i2t_median_rank"] >= min(
        metrics[f"val/{name}/retrieval/report/i2t_median_rank"] for name in ("one", "two")
    )


def test_labels_that_a_folder_lacks_do_not_count(run, folders):
    task, data = run[1].lightning_module, data_of(folders)
    trainer = L.Trainer(**QUIET)
    trainer.validate(task, data, verbose=False)
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    cardiomegaly = "val/zeroshot/Cardiomegaly"
    # Only the first folder has the label.
    assert logged[cardiomegaly] == pytest.approx(logged["val/one/zeroshot/Cardiomegaly"], abs=1e-6)
    assert "val/two/zeroshot/Cardiomegaly" not in logged


def test_training_logs_the_share_and_the_speed_of_each_folder(run):
    metrics = run[2]
    shares = [metrics[f"train/{name}/share"] for name in ("one", "two")]
    assert sum(shares) == pytest.approx(1)
    assert all(0 < share < 1 for share in shares)
    speeds = [metrics[f"time/{name}/images_per_second"] for name in ("one", "two")]
    assert sum(speeds) == pytest.approx(metrics["time/images_per_second"], rel=1e-4)


def test_frozen_texts_of_all_folders_are_embedded_once(run, folders):
    data, encoder = data_of(folders), run[1].lightning_module.text_encoder
    cache = TextCache(folders[0] / "text" / encoder.identity(), encoder.width)
    findings, impression = data.reports(["train", "validate"])
    assert not cache.missing([*findings, *impression])
    assert not (folders[1] / "text").exists()


def test_checkpoints_describe_each_folder(run, folders):
    content = torch.load(run[0] / "last.ckpt", weights_only=False)["data"]
    assert (content["dataset"], content["images"]) == ("tiny + other", 36)
    one, two = content["sources"]
    assert (one["dataset"], two["dataset"]) == ("tiny", "other")
    assert (one["images"], two["images"]) == (24, 12)
    assert one["share"] == pytest.approx(2 / 3)
    assert [*lineage(content)] == [one, two]
    known = {(test["folder"], *test["splits"]): test for test in one["known_tests"]}
    assert known["one", "halves"]["patients_seen"] > 0
    assert known["one", "quarters"]["left_out"] is False
    assert known["two", "quarters"]["images_seen"] == 0


def test_tests_say_what_the_audit_of_the_training_has_found(run, folders):
    content = torch.load(run[0] / "last.ckpt", weights_only=False)["data"]
    for variant in ("quarters", "halves"):
        data = CXRDataModule(folders[0], crop=32, split=variant)
        known = next(test for test in content["sources"][0]["known_tests"] if variant in test["splits"])
        expected = f"{known['patients_seen']} of {known['patients']} test patients were in the model's training data."
        assert seen_in_training(data, content) == ([expected] if known["patients_seen"] else [])


def test_what_is_known_is_left_out_of_training(tmp_path, folders, language):
    task = make_task(language)
    trainer, losses = make_trainer(tmp_path, 1)
    data = data_of(folders, leave_out_known_tests=True, batch_size=2)
    trainer.fit(task, data)
    one, two = task.trained_on["sources"]
    # `halves` tests on every second training image of `quarters`.
    found = next(test for test in one["known_tests"] if "halves" in test["splits"])
    assert found["left_out"] is True
    assert one["images"] == 24 - len(data.left_out[0]) < 24
    assert len(losses) == (one["images"] + two["images"]) // 2


def test_a_run_is_not_resumed_without_what_it_has_seen(run, folders, language, tmp_path):
    trainer, _ = make_trainer(tmp_path, 2)
    data = data_of(folders, leave_out_known_tests=True)
    with pytest.raises(UserError, match="was trained on 36 images, and without those"):
        trainer.fit(make_task(language), data, ckpt_path=run[0] / "last.ckpt", weights_only=False)


def test_tasks_that_read_one_folder_say_so(folders, tmp_path):
    task = ClassificationTask(weights="random", architecture="test_resnet.r160_in1k", labels=["Pleural Effusion"])
    for stage in ("fit", "test"):
        trainer = L.Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)
        with pytest.raises(UserError, match="only pre-training reads several"):
            getattr(trainer, stage)(task, data_of(folders))


def test_a_folder_named_like_a_metric_is_refused(tmp_path, folders, language):
    other = make_prepared(tmp_path / "hierarchical", 24)
    trainer, _ = make_trainer(tmp_path / "run", 1)
    with pytest.raises(UserError, match="rename the folder 'hierarchical'"):
        trainer.fit(make_task(language), data_of([folders[0], other]))


def test_a_mix_can_be_learnt_by_heart(tmp_path, folders, language):
    task = make_task(language)
    trainer, losses = make_trainer(tmp_path, 12, overfit_batches=1)
    trainer.fit(task, data_of(folders))
    assert len(losses) == 12


def test_an_objective_of_labels_learns_the_joined_labels(tmp_path, folders, language):
    labels = data_of(folders).labels
    task = make_task(language, {**IMITATE, "labels": partial(LabelClassification, labels=labels)})
    trainer, _ = make_trainer(tmp_path, 1)
    with pytest.warns(UserWarning, match="one' has no labels Mass: objective 'labels'"):
        trainer.fit(task, data_of(folders))
    assert "val/two/loss" in trainer.callback_metrics
    # Only the second folder has the label, and both say No Finding.
    metrics = trainer.callback_metrics
    assert metrics["val/labels/auroc/Mass"] == pytest.approx(float(metrics["val/two/labels/auroc/Mass"]), abs=1e-6)
    assert "val/one/labels/auroc/Mass" not in metrics
