"""What README and the guides say works: commands and code run, errors read as shown, links lead somewhere."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
import wandb
import yaml

from medvlp.config.experiments import EXPERIMENTS
from tests.support.documents import ADDED, LANGUAGES, PAGES, ROOT, SITE, blocks, make_workplace, run, run_added
from tests.support.rooms import PICTURE, drawing
from tests.support.runs import clear_environment
from tests.test_layers import LAYERS

PUBLISHED = ROOT / "medvlp" / "benchmarks" / "published.yaml"
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`((?:medvlp|experiments|tests)/[^`\s]*)`")
# Modules whose docstrings show how their functions are called.
SHOWN = [
    "medvlp.losses.alignment",
    "medvlp.losses.targets",
    "medvlp.metrics.bootstrap",
    "medvlp.metrics.recall",
    "medvlp.metrics.roc",
    "medvlp.parse.header_names",
    "medvlp.parse.labels",
    "medvlp.parse.report",
    "medvlp.parse.sections",
    "medvlp.prepare.own.labels",
    "medvlp.prepare.own.names",
    "medvlp.prepare.own.survey",
    "medvlp.prepare.own.texts",
    "medvlp.prepare.screening.flags",
    "medvlp.prepare.screening.header",
    "medvlp.prepare.words",
    "medvlp.prepared",
    "medvlp.protocols.protocol",
    "medvlp.run_lengths",
    "medvlp.tables.records",
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the data, weights and images that the documentation names."""
    folder = tmp_path_factory.mktemp("docs") / "work"
    folder.mkdir()
    make_workplace(folder)
    return folder


@pytest.fixture
def copied(workplace, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(workplace, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    clear_environment(monkeypatch)
    before = set(sys.modules)
    yield
    wandb.finish()
    for name in set(sys.modules) - before:
        if name.startswith("mylab"):  # of this page's files
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_run(page, copied, tmp_path):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: a block is one of {', '.join(sorted(LANGUAGES))}"
        if block.reason is None:
            run(block)
        elif block.reason == ADDED:
            run_added(block, tmp_path / "checkout")


def test_files_that_pages_show_pass_ruff(tmp_path):
    shown = [block for page in PAGES for block in blocks(page) if block.language == "python" and block.title]
    assert shown
    for block in shown:
        path = tmp_path / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text + "\n")
    for words in (["check"], ["format", "--diff"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = CODE.sub("", page.read_text())
    for target in LINK.findall(text):
        if not target.startswith(("http://", "https://")):
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(path), f"{page.name}: {target}"
    for span in SPAN.findall(text):
        assert list(ROOT.glob(span.rstrip("/"))) or "NAME" in span, f"{page.name}: {span}"


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_site_builds_without_warnings_and_asks_no_other_host(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", SITE / "mkdocs.yml", "-d", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)=\"(https?://[^\"]+)", page.read_text())
        assert not loaded, page


def test_picture_of_the_rooms_is_drawn_from_the_layers():
    assert PICTURE.read_text() == drawing(LAYERS), "draw it anew: python -m tests.support.rooms"


def test_architecture_names_every_room():
    text = (SITE / "pages" / "architecture.md").read_text()
    assert not [name for layer in LAYERS for name in layer if f"`{name}`" not in text]


@pytest.mark.parametrize("path", sorted((SITE / "pages" / "pictures").glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_small(path):
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("name", SHOWN)
def test_examples_in_docstrings(name):
    failed, attempted = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted
    assert not failed


def test_table_of_configs_is_complete_and_prints_what_others_published():
    text = (ROOT / "experiments" / "README.md").read_text()
    names = {p.relative_to(EXPERIMENTS).with_suffix("").as_posix() for p in EXPERIMENTS.rglob("*.yaml")}
    assert not [name for name in sorted(names) if f"`{name}`" not in text]
    published = yaml.safe_load(PUBLISHED.read_text())["tables"]
    rows = re.findall(r"\| (ASG \(CNN\)|G2D \(encoder\)|ASG|G2D) ([\d./ ]+) \|.*`make ([\w-]+)`", text)
    for name, figures, benchmark in rows:
        expected = [table["rows"][name][benchmark] for table in published if benchmark in table["rows"].get(name, {})]
        assert [float(figure) for figure in figures.split(" / ")] in expected, (name, benchmark)
    assert len(rows) == 12


# Names of benchmarks in the table of methods; three figures of NIH are of fine-tuning.
COLUMNS = {
    "Open-I": "zeroshot-open-i",
    "NIH": "zeroshot-nih",
    "CheXpert": "zeroshot-chexpert",
    "RSNA": "zeroshot-rsna",
    "MS-CXR pointing": "grounding-ms-cxr",
}


def test_table_of_methods_prints_what_others_published():
    text = (ROOT / "experiments" / "README.md").read_text().partition("## The field's methods")[2].partition("## ")[0]
    tables, checked = yaml.safe_load(PUBLISHED.read_text())["tables"], 0
    for row in re.findall(r"^\| `\w+` \|.*\|$", text, re.MULTILINE):
        method = re.sub(r"\W", " ", row.split("|")[2]).split()[0]
        for name, figures in re.findall(rf"({'|'.join(COLUMNS)}) ([\d.]+(?: / [\d.]+)*)", row):
            values = [float(figure) for figure in figures.split(" / ")]
            benchmark = COLUMNS[name] if len(values) == 1 else "nih"
            assert any(
                values == cells.get(benchmark)
                for table in tables
                for printed, cells in table["rows"].items()
                if printed.startswith(method)
            ), (method, name, values)
            checked += 1
    assert checked >= 20
