"""The entries of `medvlp datasets`: one for each front end, complete, and with commands that its parser takes."""

import re
import shlex
import shutil

import pytest

from medvlp.__main__ import COMMANDS, main
from medvlp.prepare import catalogue
from medvlp.prepare.catalogue import PURPOSES, entries, listing
from medvlp.prepare.datasets import COMMANDS as FRONT_ENDS
from tests.support.datasets import PAGE, rewritten


def printed(capsys, *words):
    main(words)
    return capsys.readouterr().out


def test_every_front_end_has_an_entry():
    assert set(FRONT_ENDS) == {*entries()}, "describe it in medvlp/prepare/datasets.yaml"


@pytest.mark.parametrize("name", entries())
def test_an_entry_is_complete(name):
    entry = entries()[name]
    assert entry.purpose
    assert set(entry.purpose) <= set(PURPOSES)
    assert entry.images is None or entry.images > 0
    texts = [entry.title, entry.has, entry.access, entry.licence, entry.get, entry.prepare]
    texts += [text for text in (entry.url, entry.source, entry.unseen) if text is not None]
    assert all(isinstance(text, str) and text.strip() == text and "\n" not in text and text for text in texts)
    assert isinstance(entry.account, bool)
    # One's own images are nowhere.
    assert name == "table" or (entry.url.startswith("https://") and entry.source)
    assert shlex.split(entry.prepare)[:3] == ["medvlp", "prepare", name]
    assert " --out data/" in entry.prepare


@pytest.mark.slow
@pytest.mark.parametrize("name", entries())
def test_the_command_of_an_entry_is_one(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([*shlex.split(entries()[name].prepare)[1:], "--print_config"])
    assert end.value.code in (0, None), capsys.readouterr().err


def test_the_page_is_made_from_the_entries():
    text = PAGE.read_text(encoding="utf-8")
    assert rewritten(text) == text, "make it anew: python -m tests.support.datasets"


def test_the_list(capsys):
    text = printed(capsys, "datasets")
    for entry in entries().values():
        assert f"{entry.name}: {entry.title}, " in text
        assert f"  get      {entry.get}\n  prepare  {entry.prepare}\n" in text
        assert entry.size in " ".join(text.split())
    assert text.endswith(f"{len(entries())} of {len(entries())} data sets. 'medvlp datasets NAME' says all of one.\n")


@pytest.mark.parametrize("words", [["--no_account"], ["--no_account", "true"], ["--no_account=true"]])
def test_those_for_a_purpose_without_an_account(capsys, words):
    names = {name for name, e in entries().items() if "grounding" in e.purpose and not e.account}
    assert 0 < len(names) < len(entries())
    text = printed(capsys, "datasets", *words, "--purpose", "grounding")
    assert {line.partition(":")[0] for line in text.splitlines() if ": " in line and line[0] not in " '"} == names
    assert f"\n{len(names)} of {len(entries())} data sets." in text


def test_one_in_full(capsys):
    for words in (["chexlocalize"], ["--name", "chexlocalize"], ["--name=chexlocalize"]):
        text = printed(capsys, "datasets", *words)
        entry = entries()["chexlocalize"]
        for value in (entry.title, entry.url, entry.get, entry.prepare, entry.licence, entry.source, entry.unseen):
            assert " ".join(value.split()) in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("datasets chexlocalise", "'chexlocalise' is no data set that medvlp describes. Did you mean 'chexlocalize'?"),
        ("datasets zzz", "'zzz' is no data set that medvlp describes. There are: "),
        ("datasets --purpose captioning", "purpose: expected one of 'pre-training', 'classification', "),
        ("datasets chexlocalize --no_acount", "--no_acount. Did you mean 'no_account'?"),
        ("prepare chexlocalise", "there is no 'chexlocalise'. Did you mean 'chexlocalize'?"),
        ("prepare zzz --root x", "there is no 'zzz'. There are: candid_ptx, chestx_det10, "),
        ("prepare chexlocalize --rot x", "Did you mean 'root'?"),
    ],
)
def test_errors_are_one_line(capsys, words, message):
    with pytest.raises(SystemExit) as end:
        main(shlex.split(words))
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_prepare_lists_front_ends_by_purpose(capsys, words):
    text = printed(capsys, "prepare", *words)
    assert text == f"{listing()}\n"
    lines = text.splitlines()
    for name in FRONT_ENDS:
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name} ")]
        heads = [line for line in lines[:at] if line.endswith(":") and line[0] != " "]
        assert heads[-1] == f"{entries()[name].purpose[0]}:"
    assert max(map(len, lines)) <= 100


def test_a_front_end_without_an_entry_is_listed(tmp_path, monkeypatch):
    shutil.copytree(catalogue.FRONT_ENDS, tmp_path / "datasets")
    (tmp_path / "datasets/shenzhen.py").write_text('"""Shenzhen: radiographs with tuberculosis.\n\nMore.\n"""\n')
    monkeypatch.setattr(catalogue, "FRONT_ENDS", tmp_path / "datasets")
    assert "\nof your own:\n  shenzhen       Shenzhen: radiographs with tuberculosis\n" in listing()


def test_names_need_no_front_end():
    """The list of data sets imports none of them."""
    assert "medvlp.prepare.datasets" not in COMMANDS["prepare"].module
    assert "shenzhen" not in FRONT_ENDS
    assert [*FRONT_ENDS] == sorted(FRONT_ENDS)
    assert FRONT_ENDS["nih"].__module__ == "medvlp.prepare.datasets.nih"


def test_readme_counts_the_data_sets():
    public = [entry for name, entry in entries().items() if name != "table"]
    free = sum(not entry.account for entry in public)
    text = " ".join((PAGE.parents[3] / "README.md").read_text(encoding="utf-8").split())
    found = re.search(r"`medvlp datasets` lists (\d+) public .*?; (\d+) of them need no account", text)
    assert found
    assert [int(number) for number in found.groups()] == [len(public), free]
