"""results.html: whole, self-contained, and careful with pictures."""

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.benchmarks.chart import BOTTOM, HEIGHT, SPACING, TOP, Axes, Series, chart, published_series, spread
from medvlp.benchmarks.page import page
from medvlp.benchmarks.results import read_cells, summarise
from tests.support.invented import write_cell
from tests.support.tiny import make_prepared

VOID = {"meta", "link", "br", "img"}


class Checker(HTMLParser):
    """Fails at tags that are not closed, and keeps what a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def grid(folder, **changes):
    for fraction, value in ((0.01, 0.7), (0.1, 0.8), (1.0, 0.9)):
        for seed in range(2):
            metrics = {"auroc": value + 0.01 * seed, "auroc/Edema": value}
            write_cell(folder / f"{fraction}-{seed}", fraction=fraction, seed=seed, metrics=metrics, **changes)
    return summarise(read_cells(folder)[0])


def test_page_is_whole_and_loads_nothing(tmp_path):
    text = page(grid(tmp_path), pictures=False)
    checked = Checker(text)
    assert all(link.startswith("#") for link in checked.loaded)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "70.5 ± 0.7 (2)" in text
    assert "prefers-color-scheme: dark" in text
    assert "AUROC of each label" in text
    assert "ASG README" in text
    assert "Test images are patients&#x27; and are not shown" in text


def test_names_are_escaped(tmp_path):
    text = page(grid(tmp_path, label="<b>&"), pictures=False)
    Checker(text)
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_chart_has_a_line_for_ours_and_for_each_published_row(tmp_path):
    (benchmark,) = grid(tmp_path)
    svg = chart(benchmark, "auroc")
    names = {name for name, *_ in ((row.method,) for row in benchmark.published)}
    assert all(name in svg for name in names)
    assert svg.count('class="ours c0"') == 1
    # What is printed alike by two sources is one line.
    assert len(published_series(benchmark, "auroc")) == len({tuple(row.values.items()) for row in benchmark.published})
    assert "Random (ASG README), Random (G2D Table 4): 58.9 / 69.4 / 74.1" in svg
    assert ">GLoRIA / GLoRIA-MIMIC<" in svg
    assert ">MedKLIP, G2D Table 4<" in svg


def test_synthetic_data_are_not_drawn_beside_published_numbers(tmp_path):
    (benchmark,) = grid(tmp_path, data={"synthetic": True})
    svg = chart(benchmark, "auroc")
    assert 'class="published' not in svg
    text = page([benchmark], pictures=False)
    assert text.count('class="warning"') == 1
    assert "Published, of the real data" in text


def test_chart_of_one_fraction(tmp_path):
    write_cell(tmp_path / "a", "brand-new", fraction=0.5, metrics={"auroc": 0.5})
    (benchmark,) = summarise(read_cells(tmp_path)[0])
    assert "nan" not in chart(benchmark, "auroc")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_axes_hold_all_values(values):
    axes = Axes([Series("a", "a", dict(enumerate(values, 1)), {})])
    for value in values:
        assert TOP - 1e-6 <= axes.y(value) <= HEIGHT - BOTTOM + 1e-6
    assert len(axes.ticks()) <= 12


@given(st.lists(st.floats(TOP, HEIGHT - BOTTOM), min_size=1, max_size=25))
def test_labels_neither_overlap_nor_change_places(heights):
    placed = spread(heights)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= SPACING - 1e-6).all()
    assert min(placed) >= TOP - 1e-6
    assert max(placed) <= HEIGHT - BOTTOM + 1e-6


def test_labels_with_room_stay_where_they_are():
    heights = [200.0, 20.0, 100.0]
    assert spread(heights) == pytest.approx(heights)
    assert spread([100.0, 100.0]) == pytest.approx([100 - SPACING / 2, 100 + SPACING / 2])


@pytest.fixture
def tested(tmp_path):
    """A cell of a classification of tiny images, with predictions."""
    root = make_prepared(tmp_path / "data")
    target = [1, 0] * 6
    score = np.linspace(0.9, 0.1, 12)
    predictions = pa.table({"image_id": [f"image{i}" for i in range(12)], "target/Edema": target, "score/Edema": score})
    write = {"data": {"root": str(root)}, "protocol": {"crop": 32}, "predictions": predictions}

    def build(**changes):
        data = {**write["data"], **changes}
        write_cell(tmp_path / "cells" / "a", data=data, protocol=write["protocol"], predictions=predictions)
        return summarise(read_cells(tmp_path / "cells")[0])

    return build


def test_patients_are_shown_when_asked_for_alone(tested):
    benchmarks = tested(synthetic=False)
    assert "data:image" not in page(benchmarks, pictures=False)
    text = page(benchmarks, pictures=True)
    Checker(text)
    assert "data:image/jpeg;base64," in text
    assert "image11" not in text


def test_synthetic_images_are_shown(tested):
    text = page(tested(synthetic=True), pictures=False)
    assert "data:image/jpeg;base64," in text
    assert "Edema present, score" in text


def test_page_without_the_prepared_folder(tested, tmp_path):
    text = page(tested(synthetic=True, root=str(tmp_path / "gone")), pictures=False)
    assert "not where it was" in text
