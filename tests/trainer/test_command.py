import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from lightning.pytorch import Trainer

import medvlp
from medvlp.__main__ import COMMANDS, TRAINER, Command, main
from medvlp.config.experiments import DEFAULTS, EXPERIMENTS, find_config
from medvlp.config.precedence import in_order
from medvlp.errors import NotFoundError, UserError
from medvlp.trainer.command import has_wandb_login
from tests.support import dummy
from tests.support.runs import clear_environment

TASK = """
model:
  class_path: DummyPretraining
  init_args:
    objectives: {global: {class_path: DummyObjective}}
trainer: {accelerator: cpu, devices: 1, precision: 32-true, max_epochs: 1, log_every_n_steps: 1}
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with task.yaml, a command line that runs the dummies, and an environment that is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medvlp.trainer.command.main", dummy.main)
    monkeypatch.setenv("WANDB_MODE", "offline")
    clear_environment(monkeypatch)
    Path("task.yaml").write_text(TASK)
    yield
    wandb.finish()


def medvlp_run(line):
    main(shlex.split(line))


def runs():
    """Folders of the runs so far, oldest first."""
    return sorted(Path("runs/medvlp").iterdir(), key=lambda path: path.stat().st_mtime)


@pytest.mark.slow
def test_light_commands_do_not_import_torch():
    for line in ("", "--help", "--version", "datasets", "prepare --help", "prepare mimic_cxr --help", "phantom --help"):
        code = (
            "import json, sys, time; from medvlp.__main__ import main\n"
            f"try: main({shlex.split(line)})\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'torch', 'lightning', 'transformers', 'timm', 'wandb', 'albumentations'} & set(sys.modules)\n"
            "print(json.dumps([sorted(heavy), time.process_time()]), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        heavy, seconds = json.loads(done.stderr.splitlines()[-1])
        assert done.stdout
        assert heavy == [], line
        assert seconds < 1, line


def test_help_lists_every_command(capsys):
    medvlp_run("--help")
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in (*TRAINER, *COMMANDS))


def test_words_are_spelt_as_jsonargparse_wants_them():
    command = Command("medvlp.none", "none", repeated=["--text"], quoted=["--args"])
    words = ["x", "--text", "a", "--text=b=c", "--texts", "d", "--args", "--data.split null", "--args=--text", "--args"]
    assert command.spell(words) == [
        *("x", "--text+", "a", "--text+=b=c", "--texts", "d"),
        *("--args=--data.split null", "--args=--text", "--args"),
    ]


def test_version(capsys):
    medvlp_run("--version")
    assert capsys.readouterr().out == f"medvlp {medvlp.__version__}\n"


def test_find_config(tmp_path):
    assert find_config("defaults") == find_config("defaults.yaml") == DEFAULTS
    Path("defaults").mkdir()
    assert find_config("defaults") == DEFAULTS
    assert find_config("task.yaml") == Path("task.yaml")
    with pytest.raises(NotFoundError, match=r"config 'default' is neither .* Did you mean 'defaults'\?"):
        find_config("default")
    with pytest.raises(NotFoundError, match=r"There are: .*defaults"):
        find_config("zzz")


ERRORS = {
    "fti": "'fti' is not a command. Did you mean 'fit'?",
    "zzz": "'zzz' is not a command. 'medvlp --help' lists the commands.",
    "prepare mimic_cx": "there is no 'mimic_cx'. Did you mean 'mimic_cxr'?",
    "prepare mimic_cxr --rports x": "unrecognized arguments: --rports x. Did you mean 'reports'?",
    "prepare zzz": "there is no 'zzz'. There are: candid_ptx, ",
    "datasets chexprt": "'chexprt' is no data set that medvlp describes. Did you mean 'chexpert'?",
    "datasets --purpose groundin": "purpose: expected one of 'pre-training', 'classification'",
    "fit": "no task is given: name a config, such as '--config imitate'.",
    "fit -c default": f"config 'default' is neither a file nor a name under {EXPERIMENTS}. Did you mean 'defaults'?",
    "fit -c task.yaml --trainer.max_epoch 3": "--trainer.max_epoch 3. Did you mean 'trainer.max_epochs'?",
    "fit -c task.yaml --data.rot x": "--data.rot x. Did you mean 'data.root'?",
    "fit -c task.yaml --model.widht 3": "Option 'widht' is not accepted. Did you mean 'width'?",
    "fit -c task.yaml --model.width wide": "model (DummyPretraining) width: expected int. Got value: wide",
    "fit -c task.yaml --model.width 0": "error: width=0, but must be positive.",
    "fit -c task.yaml --model.objectives.global.wieght 2": "'wieght' is not accepted. Did you mean 'weight'?",
    "fit -c task.yaml --model.objectives.global.level x": "level: expected one of 'flat', 'hierarchical'. Got value: x",
    "fit -c task.yaml --model DummyBase": "expected instantiatable class, but is abstract. Got value: DummyBase",
    "fit -c task.yaml --trainer.max_epochs many": "trainer.max_epochs: expected int. Got value: many",
    "fit -c task.yaml --trainer.accelerator gpx": "You selected an invalid accelerator name: `accelerator='gpx'`.",
    "fit -c task.yaml --trainer.callbacks+=LerningRateMonitor": "Did you mean 'LearningRateMonitor'?",
    "fit -c task.yaml --trainer.callbacks+=tests.support.dummy.DumyBase": ".DumyBase. Did you mean 'DummyBase'?",
    "fit -c task.yaml --ckpt_path no.ckpt": "--ckpt_path 'no.ckpt' is not a file.",
    "fit -c task.yaml --ckpt_path task.yaml": "--ckpt_path 'task.yaml' is not a checkpoint of medvlp.",
}


@pytest.mark.slow
@pytest.mark.parametrize("line", ERRORS)
def test_error_is_one_line(line, capsys):
    with pytest.raises(SystemExit) as end:
        medvlp_run(line)
    error = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert ERRORS[line] in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("trainr: {max_epochs: 3}", "'trainr.max_epochs'. Did you mean 'trainer.max_epochs'?"),
        ("trainer: {callbacks: [{class_path: Thruput}]}", "bad.yaml: trainer.callbacks: unknown class Thruput."),
        ("model: {init_args: {objectives: {x: {class_path: Nothing}}}}", "objectives: unknown class Nothing"),
        ("model: {", "bad.yaml: Problems parsing config:"),
    ],
)
def test_error_in_a_config_is_one_line(config, message, capsys):
    Path("bad.yaml").write_text(config)
    with pytest.raises(SystemExit) as end:
        medvlp_run("fit -c task.yaml -c bad.yaml")
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert message in error


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("MEDVLP_DEBUG", "1")
    with pytest.raises(UserError):
        medvlp_run("fti")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--data.root missing", 2, "error: root='missing' is not a prepared folder. Run 'medvlp prepare'."),
        ("--model.fail interrupt", 130, "error: interrupted"),
    ],
)
def test_error_inside_the_trainer_is_one_line(arguments, code, message, capsys):
    with pytest.raises(SystemExit) as end:
        medvlp_run(f"fit -c task.yaml --trainer.logger false --trainer.callbacks [] {arguments}")
    assert end.value.code == code
    assert capsys.readouterr().err.splitlines()[-1] == message


def test_bug_is_not_hidden():
    with pytest.raises(RuntimeError, match="a bug"):
        medvlp_run("fit -c task.yaml --trainer.logger false --trainer.callbacks [] --model.fail bug")


def test_configs_compose_over_the_defaults(capsys):
    Path("more.yaml").write_text("trainer: {max_epochs: 7}\ndata: {batch_size: 4}")
    with pytest.raises(SystemExit) as end:
        medvlp_run("fit -c task.yaml -c more.yaml --data.batch_size 8 --print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert end.value.code == 0
    assert config["trainer"]["max_epochs"] == 7
    assert config["data"]["batch_size"] == 8
    assert config["trainer"]["default_root_dir"] == "runs"
    assert config["seed_everything"] == 42


def printed(line, capsys):
    """Return the config that a command line stands for."""
    with pytest.raises(SystemExit) as end:
        medvlp_run(f"{line} --print_config")
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return yaml.safe_load(captured.out)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    "words",
    [
        "--trainer.max_epochs 3 -c task.yaml -c more.yaml",
        "-c task.yaml --trainer.max_epochs=3 --config more.yaml",
        "--trainer.max_epochs=3 --config=task.yaml -cmore.yaml",
        "-ctask.yaml --trainer.max_epochs 3 -c=more.yaml",
        "--print_config --trainer.max_epochs 3 -c task.yaml --config=more.yaml",
        "--trainer.max_epochs 9 -c task.yaml --trainer.max_epochs 3 -c more.yaml",
        "--trainer.max_epochs 3 --trainer trainer.yaml -c task.yaml -c more.yaml",
        r"-c task.yaml -c more.yaml --trainer.max_epochs 3 --trainer={max_epochs:\ 8}",
    ],
)
def test_the_command_line_is_over_all_configs(verb, words, capsys):
    Path("more.yaml").write_text("trainer: {max_epochs: 7}\ndata: {batch_size: 4}")
    Path("trainer.yaml").write_text("max_epochs: 8")
    config = printed(f"{verb} {words}", capsys)
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (3, 4)


def test_what_is_printed_is_what_is_run():
    Path("more.yaml").write_text("trainer: {max_epochs: 7}")
    medvlp_run("fit --trainer.max_epochs 2 -c task.yaml --trainer.logger false -c more.yaml --trainer.callbacks []")
    assert yaml.safe_load(Path("runs/config.yaml").read_text())["trainer"]["max_epochs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--data.batch_size 3 -c task.yaml --data data.yaml --model.width 5",
        "--model.width 5 --data.batch_size 3 --data data.yaml --model DummyPretraining",
        "--model.init_args.width 5 --data.batch_size 3 --model.class_path DummyPretraining --data data.yaml",
        "-c task.yaml --model.width 5 --data.batch_size 3 --model model.yaml --data data.yaml",
    ],
)
def test_files_and_classes_of_parts_are_beneath_single_options(words, capsys):
    Path("data.yaml").write_text("{batch_size: 4, root: elsewhere}")
    Path("model.yaml").write_text("class_path: DummyPretraining\ninit_args: {width: 9}")
    config = printed(f"fit {words}", capsys)
    assert config["data"] == {"batch_size": 3, "root": "elsewhere"}
    assert config["model"]["init_args"]["width"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches", "limit_test_batches"])
def test_one_batch_is_one_whatever_was_imported_before(name, monkeypatch, capsys):
    for function in (Trainer.__init__, Trainer.__init__.__wrapped__):
        monkeypatch.setitem(function.__annotations__, name, float | int | None)
    assert isinstance(printed(f"fit -c task.yaml --trainer.{name} 1", capsys)["trainer"][name], int)
    assert printed(f"fit -c task.yaml --trainer.{name} 0.5", capsys)["trainer"][name] == 0.5


def test_what_is_appended_stays_in_its_order(capsys):
    words = " ".join(
        f"--trainer.callbacks+={name} --trainer.callbacks.init_args.{option}"
        for name, option in (("EarlyStopping", "monitor=a"), ("EarlyStopping", "monitor=b"))
    )
    config = printed(f"fit {words} -c task.yaml", capsys)
    assert [c["init_args"].get("monitor") for c in config["trainer"]["callbacks"]][-2:] == ["a", "b"]


def test_a_config_may_be_all_commented_out(capsys):
    Path("nothing.yaml").write_text("# trainer: {max_epochs: 9}\n")
    with pytest.raises(SystemExit) as end:
        medvlp_run("fit -c task.yaml -c nothing.yaml --print_config")
    assert end.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["class_path"].endswith("DummyPretraining")


def test_names_with_hyphens_and_entries_of_lists_are_ordered():
    assert in_order(["-c", "a", "--model.my-tag.weight", "3", "-c", "b"]) == [
        "-c",
        "a",
        "-c",
        "b",
        "--model.my-tag.weight",
        "3",
    ]
    words = ["--t.callbacks+=A", "--t.callbacks.x.y=1", "--t.callbacks+=B", "--t.callbacks.x=2"]
    assert in_order(words) == words
    assert in_order(["--m.x.y", "1", "--m.x", "f.yaml"]) == ["--m.x", "f.yaml", "--m.x.y", "1"]


def test_in_order():
    words = "--a.b.c -1 --x=-c --a V --print_config -c one --a.b W --config=two --l+=X --l.a 1 --l+=Y --l.a 2 --n -3e-4"
    expected = (
        "-c one --config=two --a V --a.b W --a.b.c -1 --x=-c --print_config --l+=X --l.a 1 --l+=Y --l.a 2 --n -3e-4"
    )
    assert in_order(words.split()) == expected.split()
    assert in_order(["--x", "- not one", "-c", "one"]) == ["-c", "one", "--x", "- not one"]
    assert in_order([]) == []


WRAPPED = {
    "fit: {trainer: {max_epochs: 5}, ckpt_path: null}": {
        "fit": (5, "the settings under 'fit:' are taken as the whole config."),
        "test": (5, "the settings under 'fit:' are taken as the whole config."),
    },
    "{subcommand: fit, config: null, fit: {config: [a.yaml], trainer: {max_epochs: 5}, ckpt_path: old.ckpt}, "
    "test: {trainer: {max_epochs: 6}, verbose: false}}": {
        "test": (6, "under 'test:' are taken as the whole config, without 'fit:'."),
        "validate": (5, "under 'fit:' are taken as the whole config, without 'test:' and its ckpt_path."),
    },
    "{seed_everything: 3, validate: {trainer: {max_epochs: 5}, verbose: true}}": {
        "fit": (5, "under 'validate:' are taken as the whole config, without its verbose."),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "verb"), [(content, verb) for content, verbs in WRAPPED.items() for verb in verbs])
def test_settings_of_a_verb_are_unwrapped(content, verb):
    epochs, note = WRAPPED[content][verb]
    Path("wrapped.yaml").write_text(content)
    command = [sys.executable, dummy.__file__, *shlex.split(f"{verb} -c task.yaml -c wrapped.yaml --print_config")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env)
    assert yaml.safe_load(done.stdout)["trainer"]["max_epochs"] == epochs
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("wrapped.yaml: ")]
    assert note in line


REFUSED = {
    "": "the file is empty",
    "- trainer\n": "the file holds a list, not settings by name",
    "trainer": "the file holds 'trainer', not settings by name",
    "trainer:\n": "the file holds 'trainer:', not settings by name",
    "fit:\n": "the file holds 'fit:'",
    "fit: 3": "'fit:' at the top holds no settings: remove it.",
    "trainer: {devices: 1}\nfit: {trainer: {devices: 1}}": "'trainer' is both at the top and under 'fit:'",
    "trainer:\n\tmax_epochs: 3\n": "line 2 is indented with a tab",
    "trainer:\n  devices: 1\n  max_epochs: 3\n  devices: 2\n": "'devices' appears twice, in lines 2 and 4",
    '{"trainer": {"devices": 1, "devices": 2}}': "'devices' appears twice, in line 1",
    "trainer: {}\n---\ndata: {}\n": "expected a single document",
    "_wandb: {value: {}}\ntrainer: {value: {max_epochs: 3}}": "W&B's record of a run",
    "wandb_version: 1\ntrainer: {desc: null, value: {max_epochs: 3}}": "such as runs/medvlp/ID/config.yaml",
    "trainer: {desc: null, value: {max_epochs: 3}}": "W&B's record of a run",
    b"\xff\xfet\0": "the file is not text in UTF-8",
}


@pytest.mark.slow
@pytest.mark.parametrize("content", REFUSED)
def test_a_config_that_holds_no_settings_is_refused_on_one_line(content, capsys):
    Path("bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as end:
        medvlp_run("fit -c task.yaml -c bad.yaml --print_config")
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: bad.yaml: ")
    assert error.count("\n") == 1
    assert REFUSED[content] in error


def test_configs_in_json_with_tabs_and_with_aliases_are_read(capsys):
    Path("tabs.json").write_text(json.dumps({"trainer": {"max_epochs": 9}}, indent="\t"))
    Path("alias.yaml").write_text("data: &d {batch_size: 1}\nmodel: {init_args: {lr: 1e-3}}\n")
    config = printed("fit -c task.yaml -c tabs.json -c alias.yaml", capsys)
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (9, 1)
    assert config["model"]["init_args"]["lr"] == 1e-3


@pytest.mark.slow
def test_the_last_checkpoint_is_of_the_last_epoch_even_if_an_earlier_one_was_better():
    medvlp_run("fit -c task.yaml --trainer.max_epochs 3")
    wandb.finish()
    (run,) = runs()
    best, last = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    # What is monitored here is a loss, which falls.
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["best.ckpt", "last.ckpt"]


@pytest.mark.slow
def test_a_run_leaves_its_config_and_checkpoints_and_can_be_run_again(capsys):
    medvlp_run("fit -c task.yaml --model.lr 0.01")
    wandb.finish()
    (first,) = runs()
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 0.01
    checkpoint = first / "checkpoints" / "last.ckpt"
    assert checkpoint.is_file()
    assert (first / "checkpoints" / "best.ckpt").is_file()

    # W&B's own file names the other one.
    capsys.readouterr()
    (record,) = Path("runs/wandb").glob(f"*-{first.name}/files")
    foreign = record / "config.yaml"
    foreign.write_text("_wandb: {value: {cli_version: 1}}\ntrainer: {value: {max_epochs: 1}}")
    with pytest.raises(SystemExit):
        medvlp_run(f"fit -c {foreign}")
    assert f"use {first.resolve()}/config.yaml." in capsys.readouterr().err

    medvlp_run(f"fit -c {first}/config.yaml")
    wandb.finish()
    again, stored = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (runs()[-1], first))
    assert len(runs()) == 2
    assert torch.equal(again["state_dict"]["net.weight"], stored["state_dict"]["net.weight"])

    medvlp_run(f"fit -c {first}/config.yaml --trainer.max_epochs 2 --ckpt_path {checkpoint}")
    wandb.finish()
    resumed = torch.load(runs()[-1] / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == 2 * stored["global_step"]

    capsys.readouterr()
    for line, message in (
        (f"fit -c task.yaml --ckpt_path {checkpoint}", "model.lr = 0.01 there, 0.1 here"),
        (
            f"test -c task.yaml --model DummyClassification --ckpt_path {checkpoint}",
            "holds a DummyPretraining, but the config asks for a DummyClassification",
        ),
    ):
        with pytest.raises(SystemExit) as end:
            medvlp_run(line)
        assert end.value.code == 2
        assert message in capsys.readouterr().err
    spoilt = torch.load(checkpoint, weights_only=True)
    spoilt["state_dict"]["net.weight"][0, 0] = torch.nan
    torch.save(spoilt, "spoilt.ckpt")
    for verb in ("fit", "test"):
        with pytest.raises(SystemExit):
            medvlp_run(f"{verb} -c {first}/config.yaml --ckpt_path spoilt.ckpt")
        assert "holds weights that are not finite, such as 'net.weight'" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"model.lr = 0.01 there, 0.1 here"):
        medvlp_run(f"test -c task.yaml --trainer.logger false --trainer.callbacks [] --ckpt_path {checkpoint}")


def test_a_run_without_logger():
    medvlp_run("fit -c task.yaml --trainer.logger false --trainer.callbacks []")
    config = yaml.safe_load(Path("runs/config.yaml").read_text())
    assert config["model"]["class_path"] == "tests.support.dummy.DummyPretraining"


def test_has_wandb_login(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_wandb_login()
    (tmp_path / "netrc").write_text("machine example.org login a password b\n")
    assert not has_wandb_login()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    assert has_wandb_login()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_wandb_login()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert has_wandb_login()


@pytest.mark.slow
def test_two_processes_without_login(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path))
    # WANDB_SERVICE names the helper process of the tests before, which would write into their folder.
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SERVICE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    line = "fit -c task.yaml --model.fail print --trainer.devices 2 --trainer.strategy ddp"
    command = [sys.executable, dummy.__file__, *shlex.split(line)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No W&B login found: logging offline") == 1
    (run,) = runs()
    assert (run / "config.yaml").is_file()
    # 8 studies, batches of 2, 2 processes.
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2

    # W&B has the scalars and the config, but neither what was printed nor who ran what from where.
    (record,) = Path("runs/wandb").glob("offline-run-*/*.wandb")
    content = record.read_bytes()
    assert b"train/loss" in content
    assert b"DummyObjective" in content
    assert "No pleural effusion." in done.stdout
    for secret in ("No pleural effusion", "dummy.py", str(tmp_path)):
        assert secret.encode() not in content, secret
    sent = {path.name for path in (record.parent / "files").glob("**/*")}
    assert sent <= {"config.yaml", "wandb-summary.json"}
