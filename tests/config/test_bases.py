"""A config may name the configs beneath it: `base: NAME`."""

from pathlib import Path

import pytest
import yaml

from medvlp.__main__ import main
from medvlp.config.experiments import EXPERIMENTS
from medvlp.trainer.composition import compose

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, **settings):
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).write_text(yaml.safe_dump(settings, sort_keys=False))


def fit(*names):
    return compose(["fit", *(word for name in names for word in ("-c", name))])


def test_a_base_is_as_if_given_just_before():
    write("own.yaml", base="imitate", data={"batch_size": 3})
    write("plain.yaml", data={"batch_size": 3})
    assert fit("own.yaml") == fit("imitate", "plain.yaml")
    assert fit("imitate_official") == fit("imitate", "imitate_official")


def test_the_last_base_is_the_uppermost_and_bases_have_bases():
    write("a.yaml", base="imitate", trainer={"max_epochs": 1, "max_steps": 1}, data={"batch_size": 1})
    write("b.yaml", trainer={"max_epochs": 2, "max_steps": 2})
    write("c.yaml", base=["a.yaml", "b.yaml"], trainer={"max_epochs": 3})
    config = fit("c.yaml")
    assert (config["trainer"]["max_epochs"], config["trainer"]["max_steps"]) == (3, 2)
    assert config["data"]["batch_size"] == 1


def test_a_path_is_relative_to_the_config_that_names_it():
    write("folder/low.yaml", base="imitate", trainer={"max_epochs": 4})
    write("folder/high.yaml", base="low.yaml")
    write("low.yaml", trainer={"max_epochs": 5})
    assert fit("folder/high.yaml")["trainer"]["max_epochs"] == 4


def test_the_order_of_settings_is_kept():
    objectives = {name: {"class_path": "GlobalAlignment"} for name in ("second", "first")}
    write("own.yaml", base="imitate", model={"init_args": {"objectives": objectives}})
    assert list(fit("own.yaml")["model"]["init_args"]["objectives"]) == ["second", "first"]


def test_a_list_of_a_base_is_added_to():
    added = {"class_path": "SaveResults", "init_args": {"benchmark": "mine"}}
    write("own.yaml", base="base/classification", trainer={"callbacks+": added})
    names = [callback["class_path"].rpartition(".")[2] for callback in fit("own.yaml")["trainer"]["callbacks"]]
    assert names == ["ModelCheckpoint", "ModelCheckpoint", "EarlyStopping", "SaveResults"]


def test_a_base_stands_beside_or_inside_the_settings_of_a_verb():
    for wrapped in ({"fit": {"base": "imitate", "data": {"batch_size": 3}}}, {"base": "imitate", "fit": {}}):
        write("own.yaml", **wrapped)
        assert fit("own.yaml")["trainer"]["max_epochs"] == 20


REFUSED = {
    "base: imitat": f"own.yaml: base: config 'imitat' is neither a file nor a name under {EXPERIMENTS}. Did you mean",
    "base: 3": "own.yaml: 'base:' holds neither the name of a config nor a list of names",
    "base: [imitate, {a: b}]": "own.yaml: 'base:' holds neither the name of a config nor a list of names",
    "base: own.yaml": "own.yaml: the config is its own base, by way of own.yaml -> own.yaml.",
    "base: other.yaml": "own.yaml: the config is its own base, by way of own.yaml -> other.yaml -> own.yaml.",
    "base: broken.yaml": "broken.yaml: the file holds a list, not settings by name",
    "base: [imitate, wrong.yaml]": "wrong.yaml: trainer.callbacks: unknown class Thruput.",
}


@pytest.mark.parametrize("content", REFUSED)
def test_what_is_wrong_with_a_base_is_said_on_one_line(content, capsys):
    Path("own.yaml").write_text(content)
    write("other.yaml", base="own.yaml")
    write("wrong.yaml", trainer={"callbacks": [{"class_path": "Thruput"}]})
    Path("broken.yaml").write_text("- trainer\n")
    with pytest.raises(SystemExit) as end:
        main(["fit", "-c", "own.yaml", "--print_config"])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert REFUSED[content] in error
