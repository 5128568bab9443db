"""Zero-shot classification and retrieval of a checkpoint, against slow computations and other batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import TimmEncoder
from medvlp.tasks import RetrievalTask, ZeroShotTask
from medvlp.tasks.checkpoints import load_pretraining
from tests.support.runs import QUIET, clear_environment
from tests.support.slow import slow_retrieval
from tests.support.tiny import make_language_model, make_prepared, options, refit

pytestmark = pytest.mark.slow

LABELS = ["Cardiomegaly", "Pleural Effusion", "Support Devices"]


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory):
    """A folder with tiny data in which a model was pre-trained, and an environment that is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        clear_environment(patch)
        make_prepared(Path("data"))
        make_language_model(Path("bert"))
        # The encoder starts from a file, which is gone when the checkpoint is evaluated.
        image = TimmEncoder("test_resnet.r160_in1k", pretrained=False)
        torch.save(image.backbone.state_dict(), "start.pth")
        tiny = options(Path("data"), Path("bert"))
        start = "--model.image_encoder.init_args.weights=start.pth"
        main(["fit", "-c", "imitate_asg", *tiny, start, "--trainer.max_epochs=2", "--trainer.logger=false"])
        Path("start.pth").unlink()
        yield


@pytest.fixture(scope="module")
def checkpoint(workplace):
    return Path("runs/checkpoints/last.ckpt").resolve()


def run(task, batch_size=12, root=Path("data"), **data):
    """Test a task; return it."""
    module = CXRDataModule(root, batch_size=batch_size, num_workers=0, **data)
    Trainer(**QUIET).test(task, module, verbose=False)
    return task


def columns(task, prefix):
    """The columns of the predictions, (N, L), NaN where there is none."""
    names = [name for name in task.predictions.column_names if name.startswith(f"{prefix}/")]
    return np.stack([task.predictions[name].to_numpy().astype(float) for name in names], 1)


def test_gives_the_figures_of_the_pre_training(checkpoint):
    model = load_pretraining(checkpoint)
    module = CXRDataModule(Path("data"), batch_size=7, crop=32, num_workers=0, regions=True)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (expected,) = trainer.test(model, module, verbose=False)
    zero_shot, found = run(ZeroShotTask(checkpoint)), run(RetrievalTask(checkpoint))
    assert zero_shot.statistics["auroc"].value == pytest.approx(expected["test/zeroshot/macro"], abs=1e-6)
    for name in ("i2t_R@1", "t2i_R@5", "i2t_median_rank", "t2i_median_rank"):
        assert found.statistics[name].value == pytest.approx(expected[f"test/retrieval/report/{name}"], abs=1e-6)


@pytest.mark.parametrize("protocol", ["medvlp", "chexzero", "cxrclip-binary", "medklip-oracle", "tags"])
def test_metrics_equal_those_of_another_library(checkpoint, protocol):
    task = run(ZeroShotTask(checkpoint, protocol))
    target, score = columns(task, "target"), columns(task, "score")
    labels = [n.removeprefix("score/") for n in task.predictions.column_names if n.startswith("score/")]
    areas = []
    for i, label in enumerate(labels):
        known = ~np.isnan(target[:, i])
        true, mine = target[known, i], score[known, i]
        if len(set(true)) < 2:
            assert label in task.left_out
            continue
        areas.append(roc_auc_score(true, mine))
        assert task.statistics[f"auroc/{label}"].value == pytest.approx(areas[-1])
        decided = mine >= task.thresholds[i]
        for name, reference in (("f1", f1_score), ("mcc", matthews_corrcoef), ("label_accuracy", accuracy_score)):
            assert task.statistics[f"{name}/{label}"].value == pytest.approx(reference(true, decided)), name
        if protocol == "medklip-oracle":
            assert max(f1_score(true, mine >= t) for t in mine) == pytest.approx(f1_score(true, decided))
    assert task.statistics["auroc"].value == pytest.approx(np.mean(areas))
    for kind in ("auroc", "f1", "mcc", "label_accuracy"):
        assert task.statistics[kind].counted == (len(areas), 3, "labels")
    assert len(areas) < 3
    assert ("oracle" in " ".join(task.notes)) == (protocol == "medklip-oracle")


@pytest.mark.parametrize("protocol", ["medvlp", "chexzero", "tags", "medklip-oracle"])
def test_scores_depend_on_neither_batch_nor_order_nor_the_other_images(checkpoint, protocol, tmp_path):
    task = run(ZeroShotTask(checkpoint, protocol), batch_size=5)
    expected = columns(task, "score")
    for batch_size in (1, 12):
        again = run(ZeroShotTask(checkpoint, protocol), batch_size=batch_size)
        np.testing.assert_allclose(columns(again, "score"), expected, atol=2e-6)
        assert again.statistics["auroc"].value == pytest.approx(task.statistics["auroc"].value)
    # All images of the folder, of which the others are a part, in an order of its own.
    more = run(ZeroShotTask(checkpoint, protocol), 7, test_splits=["train", "test"])
    place = more.predictions["image_id"].to_pylist()
    rows = [place.index(name) for name in task.predictions["image_id"].to_pylist()]
    np.testing.assert_allclose(columns(more, "score")[rows], expected, atol=2e-6)


def test_the_transductive_original_does_and_says_so(checkpoint):
    own = {"name": "own", "version": 1, "source": "test", "normalise": "images", "score": "similarity"}
    own["prompts"] = {"pairs": {"positive": ["{}"]}}
    Path("own.yaml").write_text(json.dumps(own))
    task, more = (run(ZeroShotTask(checkpoint, "own.yaml"), test_splits=s) for s in (["test"], ["test", "train"]))
    score = columns(task, "score")
    np.testing.assert_allclose(score.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(score.std(0), 1)
    place = more.predictions["image_id"].to_pylist()
    rows = [place.index(name) for name in task.predictions["image_id"].to_pylist()]
    assert np.abs(columns(more, "score")[rows] - score).max() > 0.01
    assert any("transductive" in note for note in task.notes)


def test_thresholds_come_from_the_validation_images(checkpoint):
    own = {"base": "medvlp", "name": "own", "threshold": "validation"}
    Path("validated.yaml").write_text(json.dumps(own))
    task = run(ZeroShotTask(checkpoint, "validated.yaml", labels=["Pleural Effusion"]))
    there = run(ZeroShotTask(checkpoint, "medvlp", labels=["Pleural Effusion"]), test_splits=["validate"])
    target, score = columns(there, "target")[:, 0], columns(there, "score")[:, 0]
    best = max(f1_score(target, score >= t) for t in score)
    assert f1_score(target, score >= task.thresholds[0] - 1e-9) == pytest.approx(best)


def test_a_label_without_a_threshold_is_left_out_of_the_means_of_decisions(checkpoint):
    own = {"base": "medvlp", "name": "own", "threshold": "validation"}
    Path("validated.yaml").write_text(json.dumps(own))
    task = ZeroShotTask(checkpoint, "validated.yaml")
    task._validated = lambda: [0.5, float("nan"), float("nan")]
    run(task)
    assert task.statistics["f1"].value == task.statistics["f1/Cardiomegaly"].value
    assert "f1/Pleural Effusion" not in task.statistics
    assert task.statistics["f1"].counted == (1, 3, "labels")
    assert task.statistics["auroc"].counted == (2, 3, "labels")
    assert "auroc/Pleural Effusion" in task.statistics
    assert task.left_out["decisions on Pleural Effusion"] == "validation lacks positives or negatives"


def test_images_that_were_prepared_otherwise_are_refused(checkpoint, tmp_path):
    make_prepared(tmp_path / "data")
    refit(tmp_path / "data", "squash")
    with pytest.raises(UserError, match="--resize squash, but the model was trained on --size 40 --resize pad"):
        run(ZeroShotTask(checkpoint), root=tmp_path / "data")


def test_another_split_of_the_same_data_set_leaves_open_what_was_seen(checkpoint, tmp_path):
    make_prepared(tmp_path / "data", studies=40)
    (note,) = run(ZeroShotTask(checkpoint), root=tmp_path / "data").notes
    assert note == "whether test patients were in the model's training data (tiny, split quarters) is not known."


def test_one_of_several_classes(checkpoint):
    task = run(ZeroShotTask(checkpoint, labels=["Cardiomegaly", "Pleural Effusion"], multiclass=True))
    target, score = columns(task, "target"), columns(task, "score")
    known = ~np.isnan(target).any(1)
    assert (target[known].sum(1) == 1).all()
    right = target[known].argmax(1) == score[known].argmax(1)
    assert task.statistics["accuracy"].value == pytest.approx(right.mean())
    assert task.statistics["accuracy"].counted == (known.sum(), len(known), "images")
    assert 0 < known.sum() < len(known)


@pytest.mark.parametrize("protocol", ["cxrclip-5x200", "medvlp", "tags"])
def test_labels_are_found_whatever_their_capitals(checkpoint, protocol):
    expected = run(ZeroShotTask(checkpoint, protocol, labels=["Pleural Effusion", "Cardiomegaly"]))
    task = run(ZeroShotTask(checkpoint, protocol, labels=["pleural EFFUSION", "cardiomegaly"]))
    assert task.predictions.equals(expected.predictions)
    assert task.left_out == expected.left_out
    assert {*task.statistics} == {*expected.statistics}


def test_the_classes_of_retrieval_are_found_whatever_their_capitals(checkpoint):
    expected = run(RetrievalTask(checkpoint, classes=LABELS[:2]))
    task = run(RetrievalTask(checkpoint, classes=[label.upper() for label in LABELS[:2]]))
    assert task.statistics["i2t_P@5"].value == expected.statistics["i2t_P@5"].value


def test_retrieval_equals_a_slow_loop_whatever_the_batch(checkpoint):
    tasks = [run(RetrievalTask(checkpoint, classes=LABELS[:2]), batch_size=size) for size in (1, 5, 12)]
    rows = tasks[0].predictions
    for task in tasks[1:]:
        assert task.predictions.equals(rows)
        for name, statistic in task.statistics.items():
            assert statistic.value == tasks[0].statistics[name].value
    model, dataset = tasks[0].model, CXRDataModule(Path("data"), crop=32).dataset("test")
    texts = [
        (f"{f} {i}".strip(), f, i)
        for f, i in zip(dataset.findings.to_pylist(), dataset.impression.to_pylist(), strict=True)
    ]
    kept = [n for n, (report, _, _) in enumerate(texts) if report]
    distinct = list(dict.fromkeys(texts[n] for n in kept))
    similarity = []
    for n in kept:
        image = model.embed_images(model.image_encoder(torch.from_numpy(dataset[n]["image"])))
        line = []
        for report, findings, impression in distinct:
            said = {"findings": findings, "impression": impression, "report": report}
            cosines = [
                float(image[space] @ model.embed_texts([said[space.split("/")[1]]])[space].T)
                for space in image
                if said[space.split("/")[1]]
            ]
            line.append(sum(cosines) / len(cosines))
        similarity.append(line)
    expected = slow_retrieval(similarity, [distinct.index(texts[n]) for n in kept], (1, 5, 10))
    for name, value in expected.items():
        assert tasks[0].statistics[name].value == pytest.approx(value), name
    assert tasks[0].statistics["i2t_R@5"].counted == (len(kept), len(dataset), "images")
    one = (torch.from_numpy(dataset.label[:, :2]) == 1).sum(1) == 1
    assert tasks[0].statistics["t2i_P@5"].counted == (int(one[kept].sum()), len(dataset), "images")
    assert tasks[0].statistics["i2t_R@5"].value == pytest.approx(np.mean(rows["i2t_rank"].drop_null().to_numpy() <= 5))


def test_it_says_how_many_patients_the_model_has_seen(checkpoint):
    assert not any("training data" in note for note in run(ZeroShotTask(checkpoint)).notes)
    task = run(ZeroShotTask(checkpoint), split="halves")
    (note,) = (note for note in task.notes if "training data" in note)
    prepared = CXRDataModule(Path("data"), crop=32, split="halves").dataset("test")
    assert note.endswith("test patients were in the model's training data.")
    assert 0 < int(note.split()[0]) <= len(prepared)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: run(ZeroShotTask(path, labels=["Gout"])), "no 'Gout'"),
        (lambda path: run(ZeroShotTask(path, "biovil-rsna")), "scores none of the labels"),
        (lambda path: run(ZeroShotTask(path, "chexzer")), "chexzero"),
        (lambda path: run(RetrievalTask(path, classes=["Gout"])), "has no 'Gout'"),
    ],
)
def test_wrong_options_are_said(checkpoint, make, message):
    with pytest.raises(UserError, match=message):
        make(checkpoint)


def test_nothing_is_trained(checkpoint):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="trains nothing"):
        trainer.fit(ZeroShotTask(checkpoint), CXRDataModule(Path("data"), num_workers=0))


def test_it_has_the_weights_of_the_checkpoint(checkpoint):
    task = load_pretraining(checkpoint)
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in task.state_dict().items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, stored[name], rtol=0, atol=0)
    assert not task.training
    assert not any(parameter.requires_grad for parameter in task.parameters())
    assert (task.preprocessing.size, task.preprocessing.crop, task.trained_on["dataset"]) == (40, 32, "tiny")


def foreign(path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(3)}, "hyper_parameters": {}}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "no such file"),
        (lambda path: path.write_bytes(b"no weights"), "is not a checkpoint of 'medvlp fit'"),
        (lambda path: path.write_bytes(b""), "is not a checkpoint of 'medvlp fit'"),
        (lambda path: torch.save(torch.zeros(3), path), "is not a checkpoint of 'medvlp fit'"),
        (foreign, "is not a checkpoint of 'medvlp fit'"),
    ],
)
def test_another_file_is_refused_in_one_line(make, message, capsys):
    path = Path("other.ckpt")
    path.unlink(missing_ok=True)
    if make:
        make(path)
    with pytest.raises(SystemExit) as end:
        main(
            [
                "test",
                "-c",
                "zeroshot/open_i",
                *options(Path("data")),
                "--trainer.logger=false",
                f"--model.weights={path}",
            ]
        )
    assert end.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert message in error[0]
    assert str(path) in error[0]


def test_foreign_classes_are_refused_before_they_are_imported(checkpoint, monkeypatch):
    Path("evil_module.py").write_text("open('was_run', 'w')\nclass Encoder: pass\n")
    monkeypatch.syspath_prepend(".")
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["objectives"]["tag"]["class_path"] = "evil_module.Encoder"
    torch.save(content, "evil.ckpt")
    with pytest.raises(UserError, match=r"evil_module\.Encoder.*trust=\['evil_module'\]"):
        load_pretraining("evil.ckpt")
    assert not Path("was_run").exists()
    with pytest.raises(UserError, match="cannot be rebuilt"):
        load_pretraining("evil.ckpt", trust=["evil_module"])


@pytest.mark.parametrize(
    "text",
    ["{x: evil_text.run}", '{"class\\u005fpath": "evil_text.C"}', "settings.yaml", "[evil_text.run]"],
)
def test_text_in_place_of_settings_is_refused(checkpoint, monkeypatch, text):
    Path("evil_text.py").write_text("open('text_was_run', 'w')\n")
    Path("settings.yaml").write_text("x: evil_text.run")
    monkeypatch.syspath_prepend(".")
    content = torch.load(checkpoint, weights_only=True)
    for place in ("objectives", "tag"):
        settings = content["hyper_parameters"] | {"objectives": dict(content["hyper_parameters"]["objectives"])}
        (settings if place == "objectives" else settings["objectives"])[place] = text
        torch.save({**content, "hyper_parameters": settings}, "text.ckpt")
        with pytest.raises(UserError, match="in place of settings"):
            load_pretraining("text.ckpt")
    assert not Path("text_was_run").exists()


def test_weights_are_needed(capsys):
    with pytest.raises(SystemExit):
        main(["test", "-c", "zeroshot/open_i", *options(Path("data"))])
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "weights" in error
