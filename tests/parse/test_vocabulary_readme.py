"""The examples of vocabulary/README.md, entered into a copy of the vocabulary, do what it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medvlp

pytestmark = pytest.mark.slow

PACKAGE = Path(medvlp.__file__).parent
README = PACKAGE / "parse/vocabulary/README.md"


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def edited(tmp_path):
    """Copy the package, and enter both examples into its findings."""
    copy = tmp_path / "medvlp"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "parse/vocabulary/findings.yaml"
    synonym, finding = examples("yaml")
    head, phrase = synonym[: synonym.index("      - ")], synonym[synonym.index("      - ") :]
    text = path.read_text()
    assert text.count(head) == text.count("\nfindings:\n") == 1
    path.write_text(text.replace(head, head + phrase).replace("\nfindings:\n", f"\nfindings:\n\n{finding}\n"))
    return tmp_path


def parse(text, folder):
    code = "import sys; from medvlp.parse import parse_report; print(*parse_report({'report': sys.argv[1]}), sep='\\n')"
    command = [sys.executable, "-c", code, text]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_synonym_and_a_finding(tmp_path):
    liquid, shadow = (re.findall('parse --text "(.*?)"', command)[0] for command in examples("bash")[:2])
    assert "pleural effusion" not in parse(liquid, PACKAGE.parent)
    folder = edited(tmp_path)
    assert "side='left', finding='pleural effusion', existence='present', severity='mild'" in parse(liquid, folder)
    assert "regions=('right clavicle',), side='right', finding='companion shadow'" in parse(shadow, folder)


def test_the_table_has_all_files():
    assert set(re.findall(r"^\| \[(.*?)\]", README.read_text(), re.MULTILINE)) == {
        path.name for path in README.parent.glob("*.yaml")
    }
