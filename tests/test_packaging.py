import itertools
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import medvlp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the project, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    # Built in a copy: setuptools writes beside the sources.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "medvlp", "experiments"):
        (source / name).symlink_to(ROOT / name)
    command = ["pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder]
    done = subprocess.run([sys.executable, "-m", *command, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_packages_are_the_folders_on_disk():
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "medvlp").rglob("__init__.py")}
    packages = set(PROJECT["tool"]["setuptools"]["packages"]) - {"medvlp.experiments"}
    assert {name.replace(".", "/") for name in packages} == folders


def test_top_level_holds_what_a_newcomer_expects():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = {file.split("/")[0] for file in listed.stdout.split() if not file.startswith(".")}
    if not names:
        pytest.skip("not a git checkout with commits")
    files = {"LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml"}
    assert names == files | {"experiments", "medvlp", "tests"}


def test_constraints_name_every_dependency_and_no_index():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {line.split("==")[0].replace("_", "-").lower() for line in text.splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *itertools.chain(*extras)]
    assert {re.match(r"[\w-]+", name)[0].lower() for name in wanted} <= pinned
    assert "://" not in text
    assert "\n-" not in text


@pytest.mark.slow
def test_wheel_holds_code_and_configs(wheel):
    for suffix in (".py", ".yaml", ".typed"):
        for path in (ROOT / "medvlp").rglob(f"*{suffix}"):
            assert (wheel / path.relative_to(ROOT)).is_file(), path
    for path in (ROOT / "experiments").rglob("*.yaml"):
        assert (wheel / "medvlp" / path.relative_to(ROOT)).is_file(), path


@pytest.mark.slow
def test_wheel_finds_its_configs_from_anywhere(wheel, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import medvlp.config.experiments as c; print(c.find_config('defaults')); print(c.__file__)"
    )
    command = [sys.executable, "-I", "-c", code, str(wheel)]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == [str(wheel / "medvlp/experiments/defaults.yaml"), str(wheel / "medvlp/config/experiments.py")]


def test_version_is_the_packages():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "medvlp.__version__"
    assert medvlp.__version__.count(".") == 2
