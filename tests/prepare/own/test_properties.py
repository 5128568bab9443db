"""Tables with free names and values: the only error is one for the user, and every row is an image or is skipped."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medvlp.errors import UserError
from medvlp.prepare.own.columns import Wanted
from medvlp.prepare.own.data import OwnData
from medvlp.prepare.own.gather import Sources, gather
from medvlp.prepare.own.overview import overview
from medvlp.prepare.own.texts import read_texts
from medvlp.prepare.words import words
from tests.support.strangers import picture

NAMES = ["a", "a.png", "b.png", "x/c.png", "c", "zz.png", "../a.png", "/etc/passwd", ""]
VALUES = [
    "",
    "0",
    "1",
    "-1",
    "yes",
    "nein",
    "maybe?",
    "train",
    "val",
    "PA",
    "LL",
    "NaN",
    "[1,2,3,4]",
    "Edema|Mass",
    "[",
    "0.5",
]
COLUMNS = [name for listed in words()["columns"].values() for name in listed.split(", ")[:2]]
COLUMNS += ["x", "y", "width", "height", "Edema", "sex", "x1"]
FREE = st.text(max_size=12)
CELLS = st.one_of(st.sampled_from(VALUES), FREE, st.sampled_from(NAMES))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("free") / "images"
    for name in ("a.png", "b.png", "x/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(1)).save(folder / name)
    return folder


@st.composite
def tables(draw):
    names = draw(st.lists(st.one_of(st.sampled_from(COLUMNS), FREE), min_size=1, max_size=6, unique=True))
    cells = [st.sampled_from(NAMES) if name in ("image", "images") else CELLS for name in names]
    return draw(st.lists(st.fixed_dictionaries(dict(zip(names, cells, strict=True))), max_size=8))


def check(path, images, **wanted):
    try:
        data = OwnData(gather(Sources(images, path, wanted=Wanted(**wanted))), None, None)
    except UserError:
        return
    lines = [*overview(data, ["AP", "FRONTAL", "PA"], ["medvlp"])]
    assert all(line.isprintable() for line in lines)
    skips = []
    studies = [*data.studies(lambda *skip: skips.append(skip))]
    pictures = [picture for study in studies for picture in study.pictures]
    assert data.rows == len(pictures) + len(skips)
    assert (
        len({picture.path for picture in pictures}) == len({picture.image_id for picture in pictures}) == len(pictures)
    )
    assert all((images / picture.path).is_file() for picture in pictures)
    for study in studies:
        assert len(study.labels) == len(data.labels) == len(set(data.labels))
        assert {*study.labels} <= {None, -1, 0, 1}
        assert study.split in ("", "train", "validate", "test")


@QUICK
@given(table=tables())
def test_free_tables(images, table):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table))
        check(path, images)


@QUICK
@given(table=tables(), values=st.lists(st.sampled_from(NAMES), min_size=8, max_size=8))
def test_free_tables_with_images(images, table, values):
    rows = [{"image": value, **row} for value, row in zip(values, table, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.json"
        path.write_text(json.dumps(rows))
        check(path, images, columns={"image": "image"}, labels="none")
        check(path, images)


@QUICK
@given(data=st.binary(max_size=200))
def test_free_bytes(images, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(b"image,report,Edema,x,y,w,h\na.png," + data)
        check(path, images)


@QUICK
@given(text=st.text(max_size=200), marks=st.sampled_from(["", "{\\rtf1 ", "<p>", "Befund: "]))
def test_free_reports(text, marks):
    if (marks + text).strip():
        read_texts({"report": marks + text})
