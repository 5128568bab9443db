"""The published numbers, against what can be said of them without looking them up."""

import re

import yaml

from medvlp.benchmarks.catalogue import benchmarks
from medvlp.benchmarks.published import FILE, cautions, published, title
from medvlp.benchmarks.results import METRICS

CONTENT = yaml.safe_load(FILE.read_text())


def test_tables_name_benchmarks_and_metrics_that_exist():
    known = benchmarks()
    assert set(CONTENT["titles"]) == set(known)
    for table in CONTENT["tables"]:
        assert set(table["metrics"]) <= set(known)
        assert set(table["metrics"].values()) <= set(METRICS)
        also = table.get("also", {})
        assert set(also) <= set(known) - set(table["metrics"])
        assert set(also.values()) <= set(table["metrics"])
        assert set(table.get("cautions", {})) <= set(table["metrics"]) | set(also)


def test_every_cell_is_a_percentage_of_a_column_of_its_table():
    for table in CONTENT["tables"]:
        for row in table["rows"].values():
            assert set(row) <= set(table["metrics"])
            for values in row.values():
                assert len(values) == len(table["fractions"])
                assert all(value is None or 0 < value < 100 for value in values)


def test_rows_of_a_benchmark():
    rows = published("object-cxr")
    assert [row.method for row in rows][-2:] == ["G2D (encoder)", "M-FLAG"]
    assert rows[0].values == {10: 0.5, 100: 4.4}
    assert rows[-2].values == {1: 3.8, 10: 13.1, 100: 20.4}
    assert (rows[-1].source, rows[-1].values) == ("wizwand", {100: 19.5})
    assert all(row.metric == "map_legacy" and re.search("G2D|wizwand", row.where) for row in rows)
    assert published("mimic") == []
    assert title("mimic") == "MIMIC-CXR, 14 CheXpert labels"
    assert title("brand-new") == "brand-new"


def test_no_number_of_covidx_lies_beside_another_number_of_classes_without_a_word():
    three, two = published("covidx"), published("covidx-binary")
    assert three == two != []
    assert {"ASG README", "ASG README, ablation", "G2D Table 4", "wizwand"} == {row.source for row in two}
    assert any("two classes" in text and "covidx-binary" in text for text in cautions("covidx"))
    assert any("no source says which list" in text for text in cautions("covidx-binary"))


def test_mixed_protocols_of_nih_are_said():
    (mixed,) = (text for text in cautions("nih") if "mixes protocols" in text)
    probe, tuned = ({row.method: row.values for row in published("nih") if row.protocol == p} for p in PROTOCOLS)
    same = {method for method in probe if probe[method] == tuned.get(method)}
    assert same == {"ConVIRT", "GLoRIA", "MedKLIP", "KAD"}
    assert all(method in mixed for method in same)


PROTOCOLS = ("linear probe", "full fine-tuning")


def test_ablations_end_with_the_full_method():
    for benchmark in ("nih", "covidx", "rsna-seg"):
        rows = published(benchmark)
        full = next(row for row in rows if row.method == "ASG (ViT)")
        assert [row for row in rows if row.ablation][-1].values == full.values
