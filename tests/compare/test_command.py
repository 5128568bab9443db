"""`medvlp compare` on tiny data: two methods, two seeds, trained, tested, interrupted, resumed, and failing."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from medvlp.__main__ import main
from medvlp.benchmarks import cells
from medvlp.compare import evaluation, training
from medvlp.compare.cost import read_cost
from medvlp.compare.evaluation import evaluate, read_tests
from medvlp.compare.methods import read_methods
from medvlp.compare.runs import plan
from medvlp.config.parser import dump_settings
from medvlp.objectives import GlobalAlignment
from medvlp.tasks import PretrainingTask, ZeroShotTask
from medvlp.trainer.composition import compose
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow

OUT = Path("runs/methods")
METHODS = "clip.yaml imitate=imitate+small.yaml"
CLIP = {"report": {"class_path": "GlobalAlignment", "init_args": {"dim": 8, "hidden": 16, "soft_label_weight": 0}}}
SMALL = {"hierarchical": {"init_args": {"dim": 16, "grid": 4}}}
LAUNCH = training.launch
FILES = ("data", "bert", "clip.yaml", "small.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with tiny data, a language model, two small methods, and their comparison."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        make_prepared(folder / "data" / "open_i")
        (folder / "data" / "mimic_cxr").symlink_to("open_i")
        make_language_model(folder / "bert")
        write("clip.yaml", {"base": "imitate", "model": {"init_args": {"objectives": CLIP}}})
        write("small.yaml", {"model": {"init_args": {"objectives": SMALL}}})
        compare(tests="zeroshot/open_i retrieval/open_i")
        # Tests make other tables of the same runs.
        for path in OUT.glob("comparison.*"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture
def workplace(folder, tmp_path, monkeypatch):
    """The same without results."""
    for name in FILES:
        (tmp_path / name).symlink_to(folder / name)
    enter(tmp_path, monkeypatch)


@pytest.fixture
def again(folder, monkeypatch):
    """The folder itself, in which nothing may be trained or tested again."""
    enter(folder, monkeypatch)
    monkeypatch.setattr(training, "launch", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr(cells, "_compute", lambda *args: pytest.fail("tested again"))


def enter(folder, patch):
    patch.chdir(folder)
    patch.setenv("WANDB_MODE", "offline")
    patch.setattr(training, "launch", here)
    clear_environment(patch, "WANDB_SILENT")


def here(words, log, lock):
    """Run medvlp in this process instead of another, which would take longer to start than to train."""
    try:
        main(words)
    except SystemExit as end:
        if end.code == 130:
            raise KeyboardInterrupt from end
        return int(end.code or 0)
    except RuntimeError as error:
        log.write_text(f"Traceback\nRuntimeError: {error}\n")
        return 1
    return 0


def write(name, settings):
    Path(name).write_text(dump_settings(settings))


def tiny(epochs=1):
    chosen = [word for word in options(Path("data"), Path("bert")) if not word.startswith("--data.root")]
    return [*chosen, "--trainer.logger=false", f"--trainer.max_epochs={epochs}"]


def compare(*more, methods=METHODS, tests="zeroshot/open_i", seeds="0 1", epochs=1):
    given = ["--methods", methods, "--tests", tests, "--seeds", seeds, "--data", "data", "--min_cases", "3"]
    quiet = "--data.num_workers 0 --trainer.accelerator cpu --trainer.logger false"
    main(["compare", *given, "--args", shlex.join(tiny(epochs)), "--test_args", quiet, *more])


def result():
    return json.loads((OUT / "comparison.json").read_text())


def test_figures_are_those_of_the_predictions(folder):
    """Macro AUROC over the labels with enough cases, mean over seeds, and the difference of the same seeds."""
    found = json.loads((folder / "comparison.json").read_text())
    table = found["tests"]["zeroshot-open-i"]
    values = {}
    for method, of_seed in table["cells"].items():
        for cell in of_seed.values():
            rows = pq.read_table(folder / cell["folder"] / "predictions.parquet")
            counts = {n[7:]: np.sum(rows[n].fill_null(0).to_numpy()) for n in rows.column_names if "target/" in n}
            labels = [name for name, count in counts.items() if count >= 3]
            areas = [roc_auc_score(rows[f"target/{n}"].to_numpy(), rows[f"score/{n}"].to_numpy()) for n in labels]
            values.setdefault(method, []).append(100 * np.mean(areas))
    assert 1 < len(labels) < len(counts)
    for method, scores in values.items():
        figure = table["methods"][method]["auroc"]
        assert [*figure["seeds"].values()] == pytest.approx(scores)
        assert (figure["score"]["mean"], figure["score"]["std"]) == pytest.approx(
            (np.mean(scores), np.std(scores, ddof=1))
        )
        assert figure["score"]["left"] == "2 of 3 labels"
    difference = table["methods"]["imitate"]["auroc"]["difference"]
    expected = np.subtract(values["imitate"], values["clip"])
    assert [*difference["seeds"].values()] == pytest.approx(expected)
    assert difference["mean"] == pytest.approx(expected.mean())
    assert table["methods"]["clip"]["auroc"]["difference"] is None


def test_tables(folder):
    found, text = (
        json.loads((folder / "comparison.json").read_text()),
        (folder / "comparison.md").read_text(),
    )
    assert (found["baseline"], found["seeds"], found["failures"], found["warnings"]) == ("clip", [0, 1], {}, [])
    assert "Baseline: clip. Seeds: 0, 1." in text
    assert "max_epochs 1" in text
    assert "AUROC is the mean over the labels with at least 3 cases" in text
    assert "| minus clip | image to report, median rank |" in text
    for method in ("clip", "imitate"):
        cost = found["costs"][method]
        assert (cost["n"], cost["steps"], cost["studies"], cost["images"]) == (2, 3, 24, 48)
        assert 0 < cost["fastest"] <= cost["minutes"] <= cost["slowest"] < 5
        assert cost["hardware"][0].split(" ")[1] == "cores"
    # The projections of IMITATE are more than those of CLIP.
    assert found["costs"]["imitate"]["trained"] > found["costs"]["clip"]["trained"] > 0
    with (folder / "comparison.csv").open() as file:
        rows = {(row["test"], row["metric"], row["method"]): row for row in csv.DictReader(file)}
    row = rows["retrieval-open-i", "i2t_median_rank", "imitate"]
    figure = found["tests"]["retrieval-open-i"]["methods"]["imitate"]["i2t_median_rank"]
    assert float(row["difference"]) == figure["difference"]["mean"]
    assert row["verdict"] == figure["difference"]["verdict"]
    assert row["seeds"] == "0 1"
    assert ("zeroshot-open-i", "auroc/Cardiomegaly", "clip") in rows


def test_what_is_finished_is_not_computed_again(again, capsys):
    compare(tests="zeroshot-open-i,retrieval-open-i")
    assert "imitate seed 1: " in (out := capsys.readouterr().out)
    assert "(4/4, was there)" in out
    assert result() == json.loads(Path("comparison.json").read_text())
    # Another order, another baseline, fewer seeds: the same runs.
    compare("--baseline", "imitate", methods="imitate=imitate+small.yaml,clip=clip.yaml", seeds="1")
    assert list(result()["tests"]["zeroshot-open-i"]["methods"]) == ["imitate", "clip"]


def test_the_best_checkpoint_has_results_of_its_own(folder, monkeypatch):
    enter(folder, monkeypatch)
    compare("--checkpoint", "best", methods="clip.yaml", seeds="0")
    cell = result()["tests"]["zeroshot-open-i"]["cells"]["clip"]["0"]
    assert cell["folder"].endswith("-best/medvlp")
    assert "the best checkpoint" in (OUT / "comparison.md").read_text()


def test_other_settings_are_another_run(workplace, monkeypatch, capsys):
    compare(methods="clip.yaml", seeds="0")
    first = result()["tests"]["zeroshot-open-i"]["cells"]["clip"]["0"]
    capsys.readouterr()
    compare(methods="clip.yaml", seeds="0", epochs=2)
    out = " ".join(capsys.readouterr().out.split())
    assert "clip seed 0: other settings than in runs/methods/runs/clip/0-" in out
    assert "trainer.max_epochs was 1, is 2. It is trained anew" in out
    assert len([*(OUT / "runs" / "clip").iterdir()]) == 2
    second = result()["tests"]["zeroshot-open-i"]["cells"]["clip"]["0"]
    assert first["folder"] != second["folder"]
    assert first["weights_sha256"] != second["weights_sha256"]
    # The first is still there.
    monkeypatch.setattr(training, "launch", lambda *args: pytest.fail("trained again"))
    compare(methods="clip.yaml", seeds="0")
    assert result()["tests"]["zeroshot-open-i"]["cells"]["clip"]["0"] == first


def test_an_interrupted_run_goes_on(workplace, monkeypatch, capsys):
    steps = []
    step = PretrainingTask.training_step

    def counted(self, batch, batch_idx):
        steps.append(self.current_epoch)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(PretrainingTask, "training_step", counted)
    with pytest.raises(SystemExit) as end:
        compare(methods="clip.yaml", seeds="0", epochs=3)
    assert end.value.code == 130
    assert "clip seed 0 is interrupted. Run the same command again to continue." in capsys.readouterr().out
    assert not (OUT / "comparison.json").exists()
    compare(methods="clip.yaml", seeds="0", epochs=3)
    # Three steps an epoch: the second was interrupted, and the first is not trained again.
    assert steps == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    assert result()["costs"]["clip"]["steps"] == 9
    assert result()["costs"]["clip"]["studies"] == 72


def test_an_interrupted_test_goes_on_without_training(workplace, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(ZeroShotTask, "test_step", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit) as end:
            compare(methods="clip.yaml", seeds="0")
    assert end.value.code == 130
    assert "zeroshot-open-i of clip seed 0 is interrupted" in capsys.readouterr().out
    monkeypatch.setattr(training, "launch", lambda *args: pytest.fail("trained again"))
    compare(methods="clip.yaml", seeds="0")
    assert result()["tests"]["zeroshot-open-i"]["methods"]["clip"]["auroc"]


def test_a_method_that_fails_does_not_stop_the_others(workplace, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise RuntimeError("no loss today")

    with monkeypatch.context() as patch:
        patch.setattr(GlobalAlignment, "forward", fail)
        with pytest.raises(SystemExit) as end:
            compare(seeds="0")
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: 1 failed: clip seed 0: RuntimeError: no loss today")
    found = result()
    assert list(found["failures"]) == ["clip seed 0"]
    assert "FAILED: clip seed 0: RuntimeError: no loss today" in (OUT / "comparison.md").read_text()
    assert list(found["tests"]["zeroshot-open-i"]["methods"]) == ["imitate"]
    # It is tried again, and the other is not.
    trained = []
    monkeypatch.setattr(training, "launch", lambda words, *rest: trained.append(words[2]) or here(words, *rest))
    compare(seeds="0")
    assert [path.split("/")[3] for path in trained] == ["clip"]
    assert result()["failures"] == {}
    assert result()["tests"]["zeroshot-open-i"]["methods"]["imitate"]["auroc"]["difference"]


def test_a_test_that_fails_does_not_stop_the_others(folder, monkeypatch, capsys):
    enter(folder, monkeypatch)

    def fail(plan, redo):
        if "retrieval" in plan.benchmark:
            raise MemoryError("too large")
        return cells.run(plan, redo)

    monkeypatch.setattr(evaluation, "compute", fail)
    with pytest.raises(SystemExit) as end:
        compare(tests="retrieval-open-i zeroshot-open-i", seeds="0")
    assert end.value.code == 2
    found = result()
    assert found["failures"] == {
        f"retrieval-open-i of {m} seed 0": "MemoryError: too large" for m in ("clip", "imitate")
    }
    assert set(found["tests"]["zeroshot-open-i"]["methods"]) == {"clip", "imitate"}


def test_a_test_that_a_model_cannot_take_is_no_failure(folder, monkeypatch):
    enter(folder, monkeypatch)
    (run,) = plan(read_methods("clip.yaml"), [0], Path("data"), tiny(), OUT)
    (test,) = read_tests("retrieval/open_i", Path("data"), "", "")
    monkeypatch.setattr(evaluation, "read_run", lambda run: {"abilities": {"sections": [], "heat_sources": []}})
    cell, reason = evaluate(run, test, training.checkpoint_of(run, "last"), OUT, "")
    assert cell is None
    assert reason == "it aligns no whole images with reports"


def test_all_runs_share_a_group(folder, monkeypatch, tmp_path):
    enter(folder, monkeypatch)
    without = [word for word in tiny() if "logger" not in word]
    (run,) = plan(read_methods("clip.yaml"), [3], Path("data"), without, tmp_path)
    run.folder.mkdir(parents=True)
    config = compose(["fit", *training.command(run, "mine", "12e45678")])
    logger = config["trainer"]["logger"]
    assert logger["init_args"]["group"] == "mine"
    assert (logger["init_args"]["id"], logger["init_args"]["name"]) == ("12e45678", run.label)
    assert (config["seed_everything"], config["data"]["seed"]) == (3, 3)
    assert config["trainer"]["callbacks"][-1]["class_path"] == "medvlp.compare.cost.Cost"
    (test,) = read_tests("zeroshot/open_i", Path("data"), "", "")
    (cell,) = test.of(Path("last.ckpt"), "a").plans([(100, 3)], "", tmp_path, "mine")
    cell.folder.mkdir(parents=True)
    assert compose(["fit", *cell.command("1")])["trainer"]["logger"]["init_args"]["group"] == "mine"


def test_a_run_in_a_process_of_its_own(folder, tmp_path, monkeypatch):
    enter(folder, monkeypatch)
    monkeypatch.setattr(training, "launch", LAUNCH)
    monkeypatch.setenv("PYTHONPATH", str(Path(training.__file__).parents[2]))
    args = [*tiny(), "--trainer.max_steps=1"]
    (run,) = plan(read_methods("clip.yaml"), [0], Path("data"), args, tmp_path)
    training.train(run, "mine")
    checkpoint = training.checkpoint_of(run, "last")
    assert read_cost(checkpoint)["steps"] == 1
    assert training.read_run(run)["abilities"] == {"sections": ["report"], "heat_sources": ["global"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "clpi.yaml"], "--methods 'clpi.yaml': config 'clpi.yaml' is neither a file nor a name"),
        (["--methods", "imitate imitate=asg"], "two methods are named 'imitate'. Name one: NAME=imitate=asg"),
        (["--methods", "imitate+"], "'imitate+' lacks a config"),
        (["--methods", "a/b=imitate"], "'a/b' names a folder"),
        (["--methods", ","], "--methods names none"),
        (["--baseline", "clop"], "--baseline 'clop' is not one of the methods. Did you mean 'clip'?"),
        (["--tests", "zeroshot/opn_i"], "there is no benchmark 'zeroshot/opn_i'"),
        (["--tests", "zeroshot/nih"], "root='data/nih' is not a prepared folder"),
        (["--tests", "classification@nowhere"], "no test has prepared data"),
        (["--tests", "zeroshot/open_i+small_"], "config 'small_' is neither"),
        (["--tests", "zeroshot/open_i", "--test_args", "--trainer.devices 2"], "a comparison tests on one device"),
        (["--tests", "zeroshot/open_i zeroshot/open_i+base/as_it_is"], "zeroshot-open-i comes twice"),
        (["--seeds", "1.5"], "--seeds '1.5' are not whole numbers"),
        (["--data", "elsewhere", "--tests", "zeroshot/open_i@data"], "root='elsewhere/mimic_cxr' is not a prepared"),
    ],
)
def test_errors_before_anything_is_computed(workplace, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(["compare", "--methods", METHODS, "--tests", "zeroshot/open_i", "--data", "data", *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not OUT.exists()
