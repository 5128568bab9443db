"""Linear probes and fine-tuning: targets, losses and metrics of multi-label, binary and multi-class data."""

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from torch.nn import functional as F

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.prepared import INDEX
from medvlp.tasks import ClassificationTask
from medvlp.types import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from tests.support.runs import QUIET, UNCHANGED
from tests.support.tiny import LABELS, make_prepared

RESNET = "test_resnet.r160_in1k"


def relabel(root, labels):
    """Give a prepared folder other labels: values by name."""
    table = pq.read_table(root / INDEX)
    table = table.drop_columns([name for name in table.column_names if name.startswith("label/")])
    for name, values in labels.items():
        table = table.append_column(f"label/{name}", pa.array(values, pa.int8()))
    pq.write_table(table, root / INDEX)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data") / "prepared", 64, 40)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """COVIDx's labels: the class follows from what is drawn, and three images have none or two."""
    root = make_prepared(tmp_path_factory.mktemp("data") / "classes", 64, 40)
    table = pq.read_table(root / INDEX)
    effusion = np.array([len(boxes or []) for boxes in table["boxes"].to_pylist()])
    heart = table["label/Cardiomegaly"].to_numpy()
    number = np.where(effusion > 0, 2, heart)
    values = {name: (number == i).astype(int).tolist() for i, name in enumerate(["Normal", "Pneumonia", "COVID-19"])}
    values["Normal"][3], values["Pneumonia"][3], values["COVID-19"][3] = 0, 0, 0
    values["Normal"][7], values["Pneumonia"][7], values["COVID-19"][7] = 1, 1, 0
    values["Normal"][11], values["Pneumonia"][11], values["COVID-19"][11] = 1, -1, 0
    return relabel(root, values)


def module(root, **changes):
    chosen = {"batch_size": 8, "crop": 40, "num_workers": 0, "views": 1, "augmentation": UNCHANGED, "drop_last": False}
    return CXRDataModule(root, **(chosen | changes))


def make_task(**changes):
    L.seed_everything(0)
    return ClassificationTask(**{"weights": "random", "architecture": RESNET, **changes})


def run(task, data, folder, epochs=0):
    trainer = L.Trainer(
        max_epochs=epochs,
        **QUIET,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    if epochs:
        trainer.fit(task, data)
    (result,) = trainer.test(task, data, verbose=False)
    return trainer, result


def answered(task, label):
    """Targets of a batch of labels, for a task whose data has the task's labels in their order."""
    task._columns = list(range(len(task.labels)))
    return task.targets({"label": torch.tensor(label, dtype=torch.int8)}).tolist()


STATES = [[PRESENT], [ABSENT], [UNCERTAIN], [NOT_MENTIONED]]


@pytest.mark.parametrize(("answer", "uncertain"), [(None, UNCERTAIN), (0, ABSENT), (1, PRESENT)])
def test_what_uncertain_counts_as(answer, uncertain):
    for option in (answer, {"Edema": answer}):
        task = make_task(labels=["Edema"], uncertain=option)
        assert answered(task, STATES) == [[PRESENT], [ABSENT], [uncertain], [ABSENT]]


def test_an_answer_for_each_label():
    # CheXpert's policy of MGCA, for three of its labels.
    task = make_task(labels=["Atelectasis", "Cardiomegaly", "Edema"], uncertain={"Atelectasis": 1, "Cardiomegaly": 0})
    assert answered(task, [[UNCERTAIN] * 3]) == [[PRESENT, ABSENT, UNCERTAIN]]
    with pytest.raises(UserError, match="'Oedema' is not one of labels"):
        make_task(labels=["Edema"], uncertain={"Oedema": 1})


def test_just_one_class_is_present():
    task = make_task(labels=["a", "b", "c"], multiclass=True)
    given = [[1, 0, 0], [0, 1, NOT_MENTIONED], [0, 0, 0], [1, 1, 0], [1, UNCERTAIN, 0]]
    left_out = [UNCERTAIN] * 3
    assert answered(task, given) == [[1, 0, 0], [0, 1, 0], left_out, left_out, left_out]


def test_the_loss_is_the_mean_over_what_is_known():
    task = make_task(labels=["a", "b"])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[1, 0], [UNCERTAIN, 1], [0, UNCERTAIN], [UNCERTAIN, UNCERTAIN]])
    expected = [
        F.binary_cross_entropy_with_logits(logits[i, j], target[i, j].float())
        for i in range(4)
        for j in range(2)
        if target[i, j] != UNCERTAIN
    ]
    loss, count = task._loss(logits, target)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    assert count == 4
    loss, count = task._loss(logits, torch.full((4, 2), UNCERTAIN))
    assert (loss, count) == (0, 0)

    task = make_task(labels=["a", "b"], multiclass=True)
    target = torch.tensor([[1, 0], [0, 1], [UNCERTAIN, UNCERTAIN], [0, 1]])
    loss, count = task._loss(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits[[0, 1, 3]], torch.tensor([0, 1, 1])))
    assert count == 3


@pytest.mark.parametrize("uncertain", [None, 1])
def test_multi_label_metrics_are_those_of_scikit_learn(tmp_path, root, uncertain):
    trainer, result = run(make_task(uncertain=uncertain), module(root), tmp_path, 1)
    task, rows = trainer.lightning_module, trainer.lightning_module.predictions
    assert task.labels == LABELS
    aurocs = {}
    for name in LABELS[: 3 if uncertain else 2]:
        target, score = rows[f"target/{name}"], rows[f"score/{name}"].to_numpy()
        assert target.null_count == 0
        aurocs[name] = roc_auc_score(target.to_numpy(), score)
        assert result[f"test/auroc/{name}"] == pytest.approx(aurocs[name], abs=1e-6)
    assert result["test/auroc"] == pytest.approx(np.mean(list(aurocs.values())), abs=1e-6)
    assert set(task.statistics) == {"auroc", *(f"auroc/{name}" for name in aurocs)}
    macro = task.statistics["auroc"].replicates
    # Where a label has no positive in a bootstrap sample, those that have.
    np.testing.assert_allclose(macro, np.nanmean([task.statistics[f"auroc/{n}"].replicates for n in aurocs], 0))


def test_labels_without_positives_are_named_and_left_out(tmp_path, root):
    task = make_task()
    with pytest.warns(UserWarning, match=r"left out of the mean: Support Devices \(no positive\)\."):
        run(task, module(root), tmp_path)
    assert task.left_out == {"Support Devices": "no positive"}
    assert "auroc/Support Devices" not in task.statistics
    # Uncertain there, and so left out: the table says so.
    assert task.predictions["target/Support Devices"].null_count > 0


def test_validation_gives_the_metrics_of_the_test(tmp_path, root):
    data = module(root, test_splits=["validate"])
    trainer, result = run(make_task(), data, tmp_path, 1)
    (validated,) = trainer.validate(trainer.lightning_module, data, verbose=False)
    assert validated["val/auroc"] == pytest.approx(result["test/auroc"], abs=1e-6)


def test_binary_is_one_label(tmp_path, root):
    task = make_task(labels=["Pleural Effusion"])
    _, result = run(task, module(root), tmp_path, 1)
    assert result["test/auroc"] == result["test/auroc/Pleural Effusion"]
    assert task.predictions.column_names == ["image_id", "target/Pleural Effusion", "score/Pleural Effusion"]


def test_multi_class_metrics_are_those_of_scikit_learn(tmp_path, classes):
    task = make_task(multiclass=True)
    _, result = run(task, module(classes), tmp_path, 2)
    assert task.labels == ["Normal", "Pneumonia", "COVID-19"]
    rows = task.predictions
    target, score = (
        np.stack([rows[f"{what}/{name}"].fill_null(0).to_numpy() for name in task.labels], 1)
        for what in ("target", "score")
    )
    np.testing.assert_allclose(score.sum(1), 1)
    known = target.sum(1) > 0
    assert (~known).sum() == 3
    expected = accuracy_score(target[known].argmax(1), score[known].argmax(1))
    assert result["test/accuracy"] == pytest.approx(expected, abs=1e-6)
    for i, name in enumerate(task.labels):
        assert result[f"test/auroc/{name}"] == pytest.approx(roc_auc_score(target[known, i], score[known, i]), abs=1e-6)
    assert np.nanstd(task.statistics["accuracy"].replicates) > 0


@pytest.mark.slow
@pytest.mark.parametrize("multiclass", [False, True])
def test_fine_tuning_learns(tmp_path, root, classes, multiclass):
    task = make_task(freeze=False, multiclass=multiclass, labels=None if multiclass else LABELS[:2])
    data = module(classes if multiclass else root)
    task.optimizer = lambda parameters: torch.optim.AdamW(parameters, lr=3e-3)
    _, result = run(task, data, tmp_path, 15)
    assert result["test/auroc"] > 0.8
    assert not multiclass or result["test/accuracy"] > 0.6


def test_predictions_do_not_depend_on_the_batch_size(tmp_path, root):
    tables = []
    for batch_size in (5, 16):
        task = make_task(labels=LABELS[:2])
        run(task, module(root, batch_size=batch_size), tmp_path)
        tables.append(task.predictions)
    assert tables[0]["image_id"].to_pylist() == module(root).dataset("test").image_id.to_pylist()
    for name in tables[0].column_names[1:]:
        a, b = (table[name].to_numpy() for table in tables)
        np.testing.assert_allclose(a, b, rtol=1e-5) if "score" in name else np.testing.assert_array_equal(a, b)


def test_targets_are_those_of_the_index(tmp_path, root):
    task = make_task(labels=["Pleural Effusion", "Cardiomegaly"])  # in another order than the data's
    run(task, module(root), tmp_path)
    stored = {row["image_id"]: row for row in pq.read_table(root / INDEX).to_pylist()}
    for row in task.predictions.to_pylist():
        for name in task.labels:
            assert row[f"target/{name}"] == (stored[row["image_id"]][f"label/{name}"] or 0)


def test_labels_are_found_whatever_their_capitals(tmp_path, root):
    expected = make_task(labels=["Pleural Effusion", "Support Devices"], uncertain={"Support Devices": 1})
    run(expected, module(root), tmp_path)
    task = make_task(labels=["PLEURAL effusion", "support devices"], uncertain={"Support devices": 1})
    trainer, _ = run(task, module(root), tmp_path, 1)
    assert task.labels == ["Pleural Effusion", "Support Devices"]
    assert task.answers.tolist() == expected.answers.tolist() == [UNCERTAIN, 1]
    assert task.predictions.column_names == expected.predictions.column_names
    for column in (name for name in task.predictions.column_names if name.startswith("target/")):
        assert task.predictions[column] == expected.predictions[column]
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = make_task(labels=["Pleural effusion", "Support devices"])
    trainer.test(again, module(root), ckpt_path=tmp_path / "one.ckpt", weights_only=False, verbose=False)
    torch.testing.assert_close(again.head.weight, task.head.weight)
    with pytest.raises(UserError, match="names 'cardiomegaly' twice"):
        run(make_task(labels=["Cardiomegaly", "cardiomegaly"]), module(root), tmp_path)


def test_labels_that_the_data_lacks(tmp_path, root):
    with pytest.raises(UserError, match=r"has no 'Edema'; it has: Cardiomegaly, Pleural Effusion, Support Devices"):
        run(make_task(labels=["Edema"]), module(root), tmp_path)
    bare = relabel(make_prepared(tmp_path / "bare"), {})
    with pytest.raises(UserError, match="has no labels to learn"):
        run(make_task(), module(bare), tmp_path)


def test_a_checkpoint_knows_its_labels(tmp_path, root, classes):
    trainer, _ = run(task := make_task(), module(root), tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    loaded = ClassificationTask.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    assert loaded.labels == LABELS
    torch.testing.assert_close(loaded.head.weight, task.head.weight)
    with pytest.raises(UserError, match=r"was trained with labels=\['Cardiomegaly'.*not \['Normal'"):
        trainer.test(make_task(), module(classes), ckpt_path=tmp_path / "one.ckpt", weights_only=False)
