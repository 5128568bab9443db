"""`medvlp benchmark` on tiny data: real cells, computed, skipped, interrupted and resumed."""

import json
import re
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import wandb
import yaml

from medvlp.__main__ import main
from medvlp.benchmarks import catalogue, cells, command
from medvlp.benchmarks.catalogue import benchmarks
from medvlp.benchmarks.planning import numbers
from medvlp.config.experiments import EXPERIMENTS
from medvlp.errors import UserError
from medvlp.protocols import Protocol
from medvlp.tasks import ClassificationTask
from tests.support.runs import clear_environment
from tests.support.small_benchmark import CELLS, TINY, make_workplace
from tests.support.tiny import make_language_model, options

pytestmark = pytest.mark.slow

SMALL = f"{TINY} --data.batch_size 8"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with prepared data where the benchmark looks for it."""
    make_workplace(tmp_path, monkeypatch)
    clear_environment(monkeypatch, "WANDB_SILENT")
    yield
    wandb.teardown()  # its helper process writes into the folder it was started in


def benchmark(*args, epochs=2, fractions="50", seeds="0", more=""):
    options = ["--weights", "random", "--fractions", fractions, "--seeds", seeds]
    main(["benchmark", "rsna", *options, "--args", f"{SMALL} --trainer.max_epochs {epochs} {more}", *args])


def results(name="50-0"):
    return json.loads((CELLS / name / "results.json").read_text())


def checkpoints():
    return sorted(path.name for path in CELLS.rglob("*.ckpt"))


def test_cells_are_computed_once(capsys, monkeypatch):
    benchmark(fractions="50 100", seeds="0,1")
    out = capsys.readouterr().out
    for i, (percent, seed) in enumerate(((50, 0), (50, 1), (100, 0), (100, 1)), 1):
        value = results(f"{percent}-{seed}")["metrics"]["auroc"]["value"]
        assert f"rsna {percent} % seed {seed}: auroc {value:.3f} ({i}/4)" in out
    assert "RSNA Pneumonia, classification: AUROC" in out
    assert "Metric" not in out  # the Trainer's own tables
    half, whole = results("50-0"), results("100-0")
    assert (half["fraction"], half["n_train"], half["n_test"]) == (0.5, 12, 12)
    assert (whole["n_train"], whole["seed"], results("100-1")["seed"]) == (24, 0, 1)
    assert half["subset_sha256"] != results("50-1")["subset_sha256"]
    assert whole["subset_sha256"] == results("100-1")["subset_sha256"]
    cell = CELLS / "50-0"
    assert pq.read_table(cell / "predictions.parquet").num_rows == 12
    assert pq.read_table(cell / "bootstrap.parquet").column_names == ["auroc/Cardiomegaly", "auroc"]
    chosen = (cell / "subset.csv").read_text().split()
    assert chosen[0] == "image_id"
    assert set(chosen[1:]) < set((CELLS / "100-0" / "subset.csv").read_text().split())
    # The head alone, without the optimiser.
    assert checkpoints() == ["best.ckpt"] * 4
    checkpoint = torch.load(next(cell.rglob("best.ckpt")), weights_only=True)
    assert set(checkpoint["state_dict"]) == {"head.weight", "head.bias"}
    assert checkpoint["optimizer_states"] == []

    monkeypatch.setattr(cells, "_compute", lambda *args: pytest.fail("computed again"))
    benchmark(fractions="100,50", seeds="0 1")
    assert "(4/4, was there)" in capsys.readouterr().out


def test_an_interrupted_cell_goes_on(capsys, monkeypatch):
    """The result is that of a cell which was not interrupted."""
    benchmark("--out", "uninterrupted", epochs=4)
    expected = json.loads(Path("uninterrupted/rsna/random/50-0/results.json").read_text())
    steps = []
    step = ClassificationTask.training_step

    def counted(self, batch, batch_idx):
        steps.append(self.current_epoch)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", counted)
    with pytest.raises(SystemExit) as end:
        benchmark(epochs=4)
    assert end.value.code == 130
    assert "rsna 50 % seed 0 is interrupted. Run the same command again to continue." in capsys.readouterr().out
    assert not list(CELLS.rglob("results.json"))
    assert "last.ckpt" in checkpoints()
    benchmark(epochs=4)
    # Two steps an epoch: the third epoch was interrupted, and the first two are not trained again.
    assert steps == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3]
    assert results()["metrics"] == expected["metrics"]
    assert checkpoints() == ["best.ckpt"]


def test_a_cell_interrupted_in_its_test_is_only_tested(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "test_step", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            benchmark()
    monkeypatch.setattr(ClassificationTask, "training_step", lambda *args: pytest.fail("trained again"))
    benchmark()
    assert results()["n_train"] == 12


def test_a_cut_off_checkpoint_is_not_resumed(monkeypatch):
    step = ClassificationTask.training_step

    def interrupt(self, batch, batch_idx):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", interrupt)
        with pytest.raises(SystemExit):
            benchmark()
    (last,) = CELLS.rglob("last.ckpt")
    last.write_bytes(last.read_bytes()[:1000])
    benchmark()
    assert checkpoints() == ["best.ckpt"]


def test_other_settings_are_an_error_that_names_them(capsys):
    benchmark()
    before = results()
    with pytest.raises(SystemExit) as end:
        benchmark(epochs=3)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "rsna 50 % seed 0" in error
    assert "trainer.max_epochs was 2, is 3" in error
    assert "--redo true" in error
    assert results() == before
    # Where it runs, and how much it says, is no other setting.
    benchmark(more="--trainer.log_every_n_steps 3 --trainer.enable_model_summary true")
    benchmark("--redo", "true", epochs=3)
    assert results()["protocol"]["max_epochs"] == 3


def test_data_prepared_anew_are_another_setting(capsys, tmp_path):
    benchmark()
    manifest = tmp_path / "data" / "rsna" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"]["images.npy"]["sha256_of_sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        benchmark()
    assert "prepared data was" in capsys.readouterr().err


def test_data_prepared_with_other_options_are_another_setting(capsys, tmp_path):
    """Even where they come to the same pixels, as square images do."""
    benchmark()
    manifest = tmp_path / "data" / "rsna" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["options"]["resize"] = "squash"
    manifest.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        benchmark()
    assert "prepared.resize was 'pad', is 'squash'" in capsys.readouterr().err


def test_a_cell_older_than_the_options_of_its_data_is_still_there(capsys):
    benchmark()
    state = json.loads((CELLS / "50-0" / "cell.json").read_text())
    kept = {key: value for key, value in state["configuration"].items() if not key.startswith("prepared.")}
    # Nor does an option that was not there then, and is not given now, make another configuration.
    del kept["model.image_size"]
    (CELLS / "50-0" / "cell.json").write_text(json.dumps({**state, "configuration": kept}))
    benchmark()
    assert "was there" in capsys.readouterr().out
    kept["prepared data"] = "00000000"
    (CELLS / "50-0" / "cell.json").write_text(json.dumps({**state, "configuration": kept}))
    with pytest.raises(SystemExit):
        benchmark()
    assert "prepared data was '00000000'" in capsys.readouterr().err


def test_several_leave_out_what_is_not_prepared(capsys, monkeypatch):
    planned = []
    monkeypatch.setattr(command, "compute", lambda plans, *rest: planned.extend(plans) or [])
    overlays = {"classification": {"labels": ["A"]}, "detection": {"channels": [8, 8, 8]}, "segmentation": {}}
    for task, chosen in overlays.items():
        Path(f"tiny_{task}.yaml").write_text(yaml.safe_dump({"model": {"init_args": chosen}}))
    args = ["--weights", "random", "--fractions", "1", "--seeds", "0"]
    main(["benchmark", "classification,segmentation,detection", *args, "--args", "-c tiny_{task}.yaml"])
    found = {plan.benchmark: plan.configuration for plan in planned}
    assert found["rsna-det"]["model.channels"] == [8, 8, 8]
    # Only the detectors have another rate at 1 %.
    rates = {name: settings["model.optimizer.lr"] for name, settings in found.items()}
    assert rates == {"rsna": 5e-4, "rsna-det": 2e-4, "rsna-seg": 5e-4}
    out = " ".join(capsys.readouterr().out.split())
    assert "chexpert is left out: root='data/chexpert' is not a prepared folder" in out
    with pytest.raises(SystemExit) as end:
        main(["benchmark", "classification,segmentation,detection", *args, "--data", "elsewhere"])
    assert end.value.code == 2


def test_logs_of_wandb_are_grouped(monkeypatch):
    started = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: started.append(options) or init(**options))
    args = SMALL.replace("--trainer.logger false", "--trainer.max_epochs 1")
    grid = ["--fractions", "50", "--seeds", "3"]
    main(["benchmark", "rsna", "--weights", "random", "--name", "mine", *grid, "--args", args])
    assert {(run["group"], run["name"]) for run in started} == {("rsna", "mine-50-3")}
    assert len({run["id"] for run in started}) == 1
    assert wandb.run is None
    # Checkpoints lie in the cell, whatever the logger.
    assert list(Path("runs/benchmarks/rsna/mine/50-3").rglob("best.ckpt"))


def test_weights_are_told_apart_by_their_hash(tmp_path):
    torch.save({}, tmp_path / "last.ckpt")
    with pytest.raises(SystemExit):
        main(["benchmark", "rsna", "--weights", "last.ckpt", "--args", SMALL])
    (folder,) = Path("runs/benchmarks/rsna").iterdir()
    assert folder.name.startswith("last-")
    assert len(folder.name) == len("last-") + 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rnsa --weights random", "there is no benchmark 'rnsa'. Did you mean 'rsna'?"),
        ("zzz --weights random", "There are: chexpert, covidx, covidx-binary, mimic, nih, open-i-labels, rsna,"),
        ("rsna", "weights"),
        ("rsna --weights random --fractions 0", "shares in percent are above 0"),
        ("rsna --weights random --fractions many", "--fractions 'many' are not numbers"),
        ("rsna --weights random --seeds 1.5", "--seeds '1.5' are not whole numbers"),
        ("rsna --weights random --name a/b", "--name 'a/b' names a folder"),
        ("nih --weights random", "root='data/nih' is not a prepared folder"),
        ("rsna --weights gone.ckpt --args=--trainer.logger=false", "--weights 'gone.ckpt': no such file"),
        ("rsna --weights runs/ID/last.ckpt", "--weights 'runs/ID/last.ckpt': no such file"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["benchmark", *arguments.split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_training_without_validation_is_an_error(capsys):
    steps = "--trainer.max_steps 1 --trainer.check_val_every_n_epoch null --trainer.val_check_interval 5"
    with pytest.raises(SystemExit):
        benchmark(epochs=-1, more=steps)
    assert "training ended before its first validation" in capsys.readouterr().err


def test_foreign_files_are_not_deleted(capsys):
    (CELLS / "50-0").mkdir(parents=True)
    (CELLS / "50-0" / "thesis.txt").write_text("precious")
    with pytest.raises(SystemExit):
        benchmark()
    assert "exists, but is not a cell" in capsys.readouterr().err
    assert (CELLS / "50-0" / "thesis.txt").exists()


def test_names_of_benchmarks():
    """Results and published figures are kept under these names."""
    names = {
        "classification": {"chexpert", "covidx", "covidx-binary", "mimic", "nih", "open-i-labels", "rsna"},
        "detection": {"object-cxr", "rsna-det"},
        "segmentation": {"rsna-seg", "siim"},
    }
    for folder, expected in names.items():
        assert expected <= {name for name, path in benchmarks().items() if path.parent.name == folder}


def test_make_has_a_target_and_a_line_for_each_benchmark():
    """Without anything installed: the target's recipe is shown, not run."""

    def make(*words):
        command = ["make", "--no-print-directory", "-C", str(EXPERIMENTS.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    text = make("help")
    for name, path in benchmarks().items():
        summary = path.read_text().splitlines()[0].removeprefix("# ")
        assert re.search(rf"^make {name} +{re.escape(summary)}$", text, re.MULTILINE), name
    for name in ("rsna", "zeroshot-mimic-5x200"):
        assert make("--dry-run", name, "WEIGHTS=last.ckpt").splitlines()[-1].endswith(f" {name}")
    targets = re.findall("^make ([a-z0-9-]+) ", text, re.MULTILINE)
    assert len(targets) == len(set(targets))


def test_two_configs_with_one_name_are_refused(monkeypatch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / "kind").mkdir(exist_ok=True)
        (tmp_path / "kind" / f"{name}.yaml").write_text("base: classification/rsna\n")
    monkeypatch.setattr(catalogue, "EXPERIMENTS", tmp_path)
    with pytest.raises(UserError, match=r"two.yaml and .*one.yaml are both benchmark 'rsna'"):
        benchmarks()


def test_models_as_they_are_are_tested_once_for_each_protocol(capsys):
    make_language_model(Path("bert"))
    tiny = ["--trainer.max_steps=1", "--trainer.logger=false", "--trainer.default_root_dir=fit"]
    main(["fit", "-c", "imitate", *options(Path("data/rsna"), Path("bert")), *tiny])
    (weights,) = Path("fit").rglob("last.ckpt")
    more = "--model.labels [Cardiomegaly] --data.num_workers 0 --trainer.accelerator cpu --trainer.logger false"
    command = ["benchmark", "zeroshot-rsna", "--weights", str(weights), "--name", "mine", "--args", more]
    main([*command, "--protocols", "medvlp, chexzero"])
    out = capsys.readouterr().out
    folder = Path("runs/benchmarks/zeroshot-rsna/mine")
    protocols = {}
    for name in ("medvlp", "chexzero"):
        found = json.loads((folder / name / "results.json").read_text())
        assert (found["fraction"], found["n_train"], found["protocol"]["crop"]) == (0, 0, 32)
        protocols[name] = found["protocol"]["protocol"]
        assert f"zeroshot-rsna {name}: auroc {found['metrics']['auroc']['value']:.3f}" in out
        assert not list(folder.rglob("*.ckpt"))
    assert protocols["chexzero"] == Protocol.read("chexzero").identity
    main([*command, "--protocols", "chexzero"])
    assert "(1/1, was there)" in capsys.readouterr().out
    # Before anything is computed.
    with pytest.raises(SystemExit):
        main([*command, "--protocols", "tags nonsense"])
    assert not (folder / "tags").exists()
    main(["results", "runs/benchmarks"])
    text = Path("runs/benchmarks/results.md").read_text()
    assert "chexzero v1" in text
    assert "medvlp v1" in text
    assert "| *ASG* | 86.2 | 62.8" in text


def test_a_config_of_ones_own():
    text = benchmarks()["rsna"].read_text().replace("benchmark: rsna", "benchmark: mine")
    Path("mine.yaml").write_text(text)
    args = f"{SMALL} --trainer.max_epochs 1"
    main(["benchmark", "mine.yaml", "--weights", "random", "--fractions", "50", "--seeds", "0", "--args", args])
    assert json.loads(Path("runs/benchmarks/mine/random/50-0/results.json").read_text())["benchmark"] == "mine"


def test_numbers():
    assert numbers("fractions", "1, 10 100,10") == [1, 10, 100]
    with pytest.raises(UserError):
        numbers("seeds", "-1")


def test_a_recipe_may_depend_on_the_fraction(capsys):
    text = benchmarks()["rsna"].read_text()
    Path("mine.yaml").write_text(text)
    Path("mine.50.yaml").write_text("model: {init_args: {optimizer: {class_path: AdamW, init_args: {lr: 0.1}}}}\n")
    args = f"{SMALL} --trainer.max_epochs 1"
    main(["benchmark", "mine.yaml", "--weights", "random", "--fractions", "50,100", "--seeds", "0", "--args", args])
    rates = [results(name)["protocol"]["optimizer"]["init_args"]["lr"] for name in ("50-0", "100-0")]
    assert rates == [0.1, 5e-4]
    # One row nevertheless.
    assert capsys.readouterr().out.count(" random ") == 1


def test_what_a_cell_logs_and_shows_is_beneath_what_the_user_says(tmp_path):
    Path("silent.yaml").write_text("trainer: {logger: false, enable_progress_bar: true}")

    def composed(*more):
        plan = cells.Plan("rsna", "random", 50, 0, tmp_path, ["-c", "classification/rsna", *more], None, "")
        return cells.compose(["fit", *plan.command("identifier")])["trainer"]

    found = composed()
    logger = found["logger"]["init_args"]
    assert (logger["id"], logger["group"], logger["log_model"]) == ("identifier", "rsna", False)
    assert (found["enable_progress_bar"], found["enable_model_summary"]) == (False, False)
    for more in (["-c", "silent.yaml"], ["--trainer.logger=false", "--trainer.enable_progress_bar=true"]):
        found = composed(*more)
        assert (found["logger"], found["enable_progress_bar"], found["enable_model_summary"]) == (False, True, False)


def test_a_config_that_is_no_benchmark_is_refused_on_one_line(capsys):
    Path("own.yaml").write_text("- trainer\n")
    with pytest.raises(SystemExit):
        main(["benchmark", "own.yaml", "--weights", "random"])
    assert capsys.readouterr().err == (
        "error: own.yaml: the file holds a list, not settings by name, such as 'trainer: {max_epochs: 1}'.\n"
    )
