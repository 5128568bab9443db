"""Files of strangers: checkpoints, configs, images, tables and archives run no code and lead nowhere else."""

import ast
import os
import re
import shutil
import struct
import sys
import zlib
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import medvlp
from medvlp.__main__ import main
from medvlp.config.trust import check_classes, check_trusted, import_paths
from medvlp.errors import UserError
from medvlp.inference.reading import Reader
from medvlp.models.pretrained import load_image_encoder
from medvlp.phantom import phantom
from medvlp.prepare.datasets import COMMANDS
from medvlp.prepare.files import MAX_BYTES, Zip
from medvlp.prepared import SYNTHETIC
from medvlp.protocols import Protocol
from tests.support.raw import make_raw, read_lines, write_lines
from tests.support.runs import clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

PACKAGE = Path(medvlp.__file__).parent
CALLED, IMPORTED = Path("called"), Path("imported")
STRANGER = f"""
from pathlib import Path
Path("{IMPORTED}").touch()
def function(*args, **kwargs):
    Path("{CALLED}").touch()
class Class:
    def __init__(self, *args, **kwargs):
        function()
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with an importable module that leaves traces."""
    monkeypatch.chdir(tmp_path)
    Path("stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(".")
    yield
    sys.modules.pop("stranger", None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with tiny data, a tiny language model and a checkpoint; the environment is put back."""
    folder = tmp_path_factory.mktemp("place")
    make_prepared(folder / "data")
    make_language_model(folder / "bert")
    overlays = ["-c", "imitate_asg", "-c", "overlays/small", "-c", "overlays/small_imitate_asg"]
    run = [*overlays, *options(folder / "data", folder / "bert"), "--trainer.logger=false", "--trainer.max_epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        clear_environment(patch)
        main(["fit", *run, "--data.regions=true"])
        yield folder


@pytest.fixture(scope="module")
def checkpoint(place):
    return torch.load(next(place.rglob("last.ckpt")), weights_only=True)


# What others can be made to read is read by functions that run nothing.


def calls(tree):
    """Yield calls with the name of their function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}, node


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_what_it_reads(path):
    for name, given, call in calls(ast.parse(path.read_text())):
        place = f"{path}:{call.lineno}"
        if name == "torch.load":
            assert given.get("weights_only") == "True", place
        if name in ("np.load", "numpy.load"):
            assert "allow_pickle" not in given, place
        if name in ("yaml.load", "yaml.load_all"):
            assert len(call.args) == 2, place
            assert ast.unparse(call.args[1]) == "LOADER", place
        assert name not in ("eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"), place
        assert not name.startswith(("pickle.load", "joblib.", "dill.", "shelve.", "marshal.")), place
        assert not name.endswith((".extractall", ".unpack_archive")), place
        assert given.get("shell", "False") == "False", place
        if name.endswith(".from_pretrained"):
            assert given.get("trust_remote_code", "False") == "False", place


def test_the_page_writes_text_as_text():
    script = (PACKAGE / "app/page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)


# Checkpoints.


class Bomb:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return CALLED.touch, ()


@pytest.mark.slow
def test_unpickling_runs_nothing(place, checkpoint):
    torch.save({**checkpoint, "callbacks": Bomb()}, "bomb.ckpt")
    torch.save(Bomb(), "bomb.pth")
    for load in (medvlp.load, load_image_encoder):
        with pytest.raises(UserError):
            load("bomb.ckpt")
    with pytest.raises(UserError):
        load_image_encoder("bomb.pth", "test_resnet.r160_in1k")
    data = options(place / "data", place / "bert")
    with pytest.raises(SystemExit):
        main(["test", "-c", "imitate", *data, "--trainer.logger=false", "--ckpt_path=bomb.ckpt"])
    assert not CALLED.exists()
    torch.load("bomb.ckpt", weights_only=False)
    assert CALLED.exists()


PLACES = [
    ("text_encoder",),
    ("image_encoder",),
    ("objectives", "more"),
    ("objectives", "tag", "init_args", "query_encoder"),
    ("objectives", "report", "init_args", "soft_labels"),
    ("image_encoder", "init_args", "name"),
    ("protocol",),
    ("_class_path",),
]
NAMES = ["stranger.Class", "stranger.function", "medvlp.trainer.command.LightningCLI", "medvlp.__main__.sys.exit"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", [lambda n: n, lambda n: {"class_path": n, "init_args": {}}, '{{class_path: "{}"}}'.format]
)
@pytest.mark.parametrize("place_of", PLACES, ids=".".join)
def test_checkpoints_name_classes_of_ours_alone(checkpoint, place_of, form):
    for name in NAMES:
        changed = deepcopy(checkpoint)
        inner = changed["hyper_parameters"]
        for key in place_of[:-1]:
            inner = inner[key]
        inner[place_of[-1]] = form(name)
        torch.save({k: changed[k] for k in ("hyper_parameters", "data", "state_dict")}, "strange.ckpt")
        with pytest.raises(UserError, match=r"strange\.ckpt"):
            medvlp.load("strange.ckpt")
    assert not IMPORTED.exists()


def test_a_package_can_be_trusted_but_what_it_imports_cannot():
    settings = {"a": [{"class_path": "stranger.Class", "init_args": {"name": "tf_efficientnet_lite0.in1k"}}]}
    assert list(import_paths(settings)) == ["stranger.Class"]
    with pytest.raises(UserError, match=r"x: the class 'stranger\.Class' is not of.*trust=\['stranger'\]"):
        check_trusted(settings, ["medvlp"], "x")
    assert not IMPORTED.exists()
    check_trusted(settings, ["medvlp", "stranger"], "x")
    for name in ("stranger.Path", "stranger.function", "stranger.missing", "stranger.no.Class"):
        with pytest.raises(UserError, match="not a class of medvlp, stranger"):
            check_trusted({"class_path": name}, ["medvlp", "stranger"], "x")


# Configs.


def classes(settings, place=()):
    """Yield the places in settings where a class is named."""
    if isinstance(settings, dict):
        if "class_path" in settings:
            yield place
        for key, value in settings.items():
            yield from classes(value, (*place, key))
    elif isinstance(settings, list):
        for i, value in enumerate(settings):
            yield from classes(value, (*place, i))


@pytest.fixture(scope="module")
def composed(place):
    """A whole config of a pre-training, as it is saved beside its checkpoints."""
    config = yaml.safe_load(next(place.rglob("config.yaml")).read_text())
    config["trainer"] |= {
        "logger": [{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "."}}]
    }
    return config


def refused(config, capsys, verb="fit"):
    Path("config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as end:
        main([verb, "-c", "config.yaml"])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_configs_make_what_is_expected_alone(composed, capsys):
    found = list(classes(composed))
    assert len(found) > 10
    for where in found:
        config = deepcopy(composed)
        inner = config
        for key in where[:-1]:
            inner = inner[key]
        for name in ("subprocess.Popen", "os.abort"):
            inner[where[-1]] = {
                "class_path": name,
                "init_args": {"args": ["touch", str(CALLED)]} if "P" in name else {},
            }
            assert "error: " in refused(config, capsys)
            assert not CALLED.exists(), where


@pytest.mark.slow
def test_functions_are_not_called_where_callables_are_expected(composed, capsys):
    config = deepcopy(composed)
    callback = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": "os.abort"}}
    config["trainer"]["callbacks"] = [callback]
    assert "setup is the function 'abort': only classes" in refused(config, capsys)
    check_classes({"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0, "name": "os.abort"}}, "x")
    with pytest.raises(UserError, match=r"x class_path 'os\.abort' is not a class"):
        check_classes([{"class_path": "os.abort"}], "x")


@pytest.mark.slow
def test_a_checkpoint_does_not_bring_classes_into_a_run(place, checkpoint, capsys):
    changed = deepcopy(checkpoint)
    changed["hyper_parameters"]["objectives"]["tag"] = {"class_path": "stranger.Class", "init_args": {}}
    torch.save(changed, "strange.ckpt")
    config = next(place.rglob("config.yaml"))
    with pytest.raises(SystemExit):
        main(["test", "-c", str(config), "--trainer.logger=false", "--ckpt_path=strange.ckpt"])
    assert "asks for 'stranger.Class', which the config does not name" in capsys.readouterr().err
    assert not IMPORTED.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.abort []", "!!python/name:stranger.function ''"])
def test_yaml_makes_no_objects(tag, capsys):
    Path("protocol.yaml").write_text(f"name: {tag}\n")
    with pytest.raises(UserError):
        Protocol.read("protocol.yaml")
    Path("config.yaml").write_text(f"seed_everything: {tag}\n")
    with pytest.raises(SystemExit):
        main(["fit", "-c", "config.yaml"])
    assert not IMPORTED.exists()


# Images and archives.


def png(width, height, data=b""):
    """Return a PNG that claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = b"IDAT" + data
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body, b"IEND")
    )


def test_bombs_are_left_out_at_once():
    side = 20_000
    small = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    assert len(small) < 1_000_000
    Path("bomb.png").write_bytes(png(side, side, small))
    Image.new("1", (side, side)).save("bomb.tif", compression="group4")
    for name in ("bomb.png", "bomb.tif"):
        assert "decompression bomb" in Reader(64, "pad").read(name).reason, name


def test_members_of_archives_are_cut():
    import zipfile

    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", bytes(MAX_BYTES + 1))
        archive.writestr("../up.txt", b"x")
        archive.writestr("/etc/absolute.txt", b"x")
    escaping = []
    index = Zip(Path("a.zip")).index(lambda name: True, lambda what, reason: escaping.append((what, reason)))
    assert list(index) == ["bomb.txt"]
    assert [reason for _, reason in escaping] == ["escapes root"] * 2
    with pytest.raises(ValueError, match="checksum"):
        Zip(Path("a.zip")).read(index["bomb.txt"])


# Tables: an audit hook sees every file that Python opens.

opened: list[str] | None = None


def audit(event, arguments):
    if event == "open" and opened is not None and isinstance(arguments[0], str | bytes | os.PathLike):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(audit)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw") / "raw"
    phantom(root, studies=10, size=64, workers=1, layouts="all")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("how", ["relative", "absolute", "link"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_table_leads_out_of_its_root(name, how, layouts, tmp_path):
    global opened
    raw, outside = make_raw(name, layouts, tmp_path / "inside"), tmp_path / "outside"
    shutil.copytree(raw.folder, outside)
    text = (".csv", ".gz", ".json", ".txt", ".xml")
    files = [
        path for path in raw.folder.rglob("*") if path.is_file() and path.suffix not in text and path.name != SYNTHETIC
    ]
    images = {re.sub(r"\.(jpg|png|dcm|dicom)$", "", path.name): path for path in files}
    # The name of an image in a row of a table, with its folders and suffix if the row has them.
    pattern = rf"(?:[\w.-]+/)*\b({'|'.join(map(re.escape, images))})\b(?:\.(?:jpg|png|dcm|dicom))?"
    changed = 0

    def lead_out(match):
        """Return a name that leads to the copy outside, from wherever it is taken to start."""
        nonlocal changed
        path = Path(match[0])
        folder = path.parent if "/" in match[0] else images[match[1]].parent.relative_to(raw.folder)
        changed += 1
        return f"{'../' * 30 if how == 'relative' else '/'}{str(outside / folder / path.name).lstrip('/')}"

    if how == "link":
        for path in files:
            path.unlink()
            path.symlink_to(outside / path.relative_to(raw.folder))
            changed += 1
    tables = [path for path in raw.folder.rglob("*") if {*text} & {*path.suffixes} and path.name != SYNTHETIC]
    for table in tables if how != "link" else ():
        head, *rows = read_lines(table)
        # Of the other images some are left, so that there is something to prepare.
        lines = [re.sub(pattern, lead_out, line) if i % 2 else line for i, line in enumerate(rows)]
        write_lines(table, [head, *lines])
    assert changed
    opened = []
    try:
        raw.prepare(tmp_path / "out")
    except UserError:
        pass  # nothing is left, which is as good
    finally:
        paths, opened = opened, None
    assert paths
    assert not [path for path in paths if path.startswith(str(outside))]
