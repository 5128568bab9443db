"""Means over seeds, what is grouped, and the three files of `medvlp results`."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from medvlp.__main__ import main
from medvlp.benchmarks.results import BOOTSTRAP, RESULTS, Score, read_cells, summarise
from medvlp.benchmarks.tables import markdown, sheets
from medvlp.errors import NotFoundError, UserError
from tests.support.invented import write_cell


def write_grid(folder, label="ours", values=((0.80, 0.82, 0.84), (0.90, 0.91, 0.92)), **changes):
    for fraction, seeds in zip((0.01, 1.0), values, strict=True):
        for seed, value in enumerate(seeds):
            cell = folder / label / f"{fraction}-{seed}"
            write_cell(cell, label=label, fraction=fraction, seed=seed, metrics={"auroc": value}, **changes)


def only_benchmark(folder):
    (benchmark,) = summarise(read_cells(folder)[0])
    return benchmark


def test_mean_and_spread_over_seeds(tmp_path):
    write_grid(tmp_path)
    benchmark = only_benchmark(tmp_path)
    (row,) = benchmark.rows
    score = row.scores["auroc"][1.0]
    assert (score.mean, score.std, score.n) == (pytest.approx(82), pytest.approx(2), 3)
    # The mean of the seeds in each bootstrap sample, not the mean of their intervals.
    cells = [tmp_path / "ours" / f"0.01-{seed}" / BOOTSTRAP for seed in range(3)]
    means = np.mean([pq.read_table(cell)["auroc"].to_numpy() for cell in cells], axis=0)
    assert (score.low, score.high) == pytest.approx(tuple(100 * np.percentile(means, [2.5, 97.5])))
    assert benchmark.percents == [1, 10, 100]
    assert str(score) == f"82.0 ± 2.0 (3) [{score.low:.1f}, {score.high:.1f}]"


def test_one_seed_has_no_spread(tmp_path):
    write_cell(tmp_path / "cell")
    (tmp_path / "cell" / BOOTSTRAP).unlink()
    assert str(only_benchmark(tmp_path).rows[0].scores["auroc"][1.0]) == "80.0"


@pytest.mark.parametrize(
    "change",
    [
        {"label": "other"},
        {"recipe": "87654321"},
        {"data": {"split_sha256": "01" * 32}},
        {"data": {"options": {"dataset": "rsna", "size": 256, "resize": "squash"}}},
        {"data": {"options": {"dataset": "rsna", "size": 512, "resize": "pad"}}},
        {"data": {"options": {"dataset": "rsna", "size": 256, "resize": "pad", "annotation_size": 512}}},
        {"data": {"options": None}},
        {"data": {"sha256": {"images.npy": {"sha256_of_sha256": "02" * 32}}}},
        {"data": {"sha256": {"masks.npy": {"sha256_of_sha256": "02" * 32}}}},
        {"encoder_sha256": "02" * 32},
    ],
    ids=str,
)
def test_what_was_made_otherwise_is_a_row_of_its_own(tmp_path, change):
    write_cell(tmp_path / "a")
    write_cell(tmp_path / "b", seed=1, **change)
    assert [row.scores["auroc"][1.0].n for row in only_benchmark(tmp_path).rows] == [1, 1]


def test_rows_say_how_their_data_were_prepared(tmp_path, capsys):
    options = {"dataset": "object_cxr", "synthetic": False, "size": 256, "views": ["AP", "PA"], "min_words": 0}
    for seed, resize in enumerate(("pad", "squash")):
        write_cell(tmp_path / resize, "object-cxr", seed=seed, data={"options": {**options, "resize": resize}})
    main(["results", str(tmp_path)])
    said = [f"256 px, {resize}, views AP+PA" for resize in ("pad", "squash")]
    files = [(tmp_path / f"results.{suffix}").read_text() for suffix in ("md", "html", "json")]
    for text in (capsys.readouterr().out, *files):
        assert all(words in text for words in said)
        assert "differently prepared" in " ".join(text.split())
    rows = json.loads(files[-1])["object-cxr"]["rows"]
    assert [row["split"]["options"]["resize"] for row in rows] == ["pad", "squash"]
    assert len({row["preparation"]["hash"] for row in rows}) == 2


def test_results_that_do_not_say_how_their_data_were_prepared(tmp_path, capsys):
    for seed in (0, 1):
        cell = write_cell(tmp_path / f"{seed}", seed=seed)
        content = json.loads((cell / RESULTS).read_text())
        del content["data"]["options"], content["data"]["sha256"]
        (cell / RESULTS).write_text(json.dumps(content))
    write_cell(tmp_path / "new", seed=2)
    found = only_benchmark(tmp_path)
    assert sorted((row.preparation, row.scores["auroc"][1.0].n) for row in found.rows) == [
        ("256 px, pad", 1),
        ("unknown", 2),
    ]
    main(["results", str(tmp_path)])
    assert "prepared: unknown" in capsys.readouterr().out


def test_a_note_is_said_once_for_all_rows(tmp_path):
    for label in ("a", "b"):
        write_cell(tmp_path / label, label=label, encoder_sha256=label * 64, notes=["silver boxes"])
    assert [note for note in only_benchmark(tmp_path).notes if "silver" in note] == ["a, b: silver boxes"]


def test_a_copy_counts_once(tmp_path):
    write_cell(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert only_benchmark(tmp_path).rows[0].scores["auroc"][1.0].n == 1


def test_notes(tmp_path):
    left_out = {"Hernia": "no positive"}
    write_cell(tmp_path / "a", data={"counts": {"train": 5, "validate": 3, "test": 2}}, left_out=left_out)
    write_cell(tmp_path / "b", data={"split": "70_15_15", "split_sha256": "01" * 32, "documented": {}})
    notes = only_benchmark(tmp_path).notes
    assert notes[0] == "Rows of different splits were tested on different images."
    sizes = "5 train, 3 validate, 2 test and not 16,010 train, 5,337 validate, 5,337 test."
    assert f"The split mgca_16010 is not the published one: {sizes}" in notes
    assert "Hernia is left out of ours: no positive." in notes


def test_the_best_row_is_first_and_published_rows_are_below(tmp_path):
    write_grid(tmp_path, "low", ((0.5,), (0.6,)))
    write_grid(tmp_path, "high", encoder_sha256="01" * 32)
    (sheet,) = sheets(only_benchmark(tmp_path))
    lines = sheet.lines
    assert sheet.heads == ["1 %", "10 %", "100 %"]
    assert [line.name for line in lines][:3] == ["high", "low", "Random"]
    assert [line.published for line in lines] == sorted(line.published for line in lines)
    assert lines[2].cells == [58.9, 69.4, 74.1]
    prepared = only_benchmark(tmp_path).rows[0].preparation_hash
    how = ["linear probe, resnet50, 224 px · 12345678", "mgca_16010 · cdcdcdcd", f"256 px, pad · {prepared}"]
    assert lines[0].how == how


def test_metrics_have_tables_of_their_own(tmp_path):
    metrics = {"map": 0.1, "map_legacy": 0.2}
    write_cell(tmp_path / "a", "rsna-det", metrics=metrics, how="frozen encoder")
    found = {sheet.metric: sheet.lines for sheet in sheets(only_benchmark(tmp_path))}
    assert list(found) == ["map", "map_legacy"]
    assert [line.name for line in found["map"]] == ["ours"]
    assert found["map"][0].protocol == "frozen encoder, resnet50, 224 px"
    assert len(found["map_legacy"]) > 5


def test_a_new_benchmark_needs_no_published_table(tmp_path):
    write_cell(tmp_path / "a", "brand-new", metrics={"recall": 0.5, "recall/x": 0.5})
    assert [sheet.metric for sheet in sheets(only_benchmark(tmp_path))] == ["recall"]


def test_models_as_they_are_have_all_metrics_in_one_table(tmp_path, capsys):
    metrics = {"auroc": 0.8, "f1": 0.5, "auroc/Pneumonia": 0.8}
    for protocol, recipe in (("chexzero v1", "a" * 8), ("tags v1", "b" * 8)):
        folder = tmp_path / protocol[:4]
        notes = ["a note"]
        write_cell(folder, "zeroshot-rsna", fraction=0.0, metrics=metrics, how=protocol, recipe=recipe, notes=notes)
    found = only_benchmark(tmp_path)
    (sheet,) = sheets(found)
    assert sheet.heads == ["AUROC", "F1", "accuracy of labels"]
    assert [line.protocol.split(",")[0] for line in sheet.lines[:2]] == ["chexzero v1", "tags v1"]
    (asg,) = (line for line in sheet.lines if line.name == "ASG")
    assert asg.cells == [86.2, 62.8, 79.4]
    assert "ours: a note" in found.notes
    main(["results", str(tmp_path)])
    assert "80.0" in capsys.readouterr().out
    page = (tmp_path / "results.html").read_text()
    assert "AUROC of each label<" in page
    assert "0 %" not in page


def test_a_cell_without_a_metric_is_said_and_does_no_harm(tmp_path, capsys):
    write_cell(tmp_path / "a")
    write_cell(tmp_path / "b", seed=1)
    path = tmp_path / "b" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {}, "left_out": {"A": "no positive"}}))
    main(["results", str(tmp_path)])
    out = " ".join(capsys.readouterr().out.split())
    assert "1 cells" in out
    assert "no metric: {'A': 'no positive'}" in out


def test_the_first_row_has_the_best_mean_whatever_its_first_label(tmp_path):
    for name, first, mean in (("a", 0.9, 0.6), ("b", 0.5, 0.8)):
        write_cell(tmp_path / name, label=name, encoder_sha256=name * 64, metrics={"auroc/A": first, "auroc": mean})
    assert [row.label for row in only_benchmark(tmp_path).rows] == ["b", "a"]


def test_ranks_are_no_percentages(tmp_path):
    metrics = {"i2t_R@1": 0.25, "i2t_median_rank": 7.0}
    write_cell(tmp_path / "a", "retrieval-open-i", fraction=0.0, metrics=metrics)
    (row,) = only_benchmark(tmp_path).rows
    assert (row.scores["i2t_R@1"][0.0].mean, row.scores["i2t_median_rank"][0.0].mean) == (25.0, 7.0)


def test_files_and_terminal(tmp_path, capsys):
    write_grid(tmp_path)
    main(["results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "RSNA Pneumonia, classification: AUROC" in out
    assert "82.0 ± 2.0 (3)" in out
    content = json.loads((tmp_path / "results.json").read_text())["rsna"]
    assert content["rows"][0]["scores"]["auroc"]["1"]["n"] == 3
    assert content["rows"][0]["split"]["split_sha256"] == "cd" * 32
    assert content["published"][0]["values"] == {"1": 58.9, "10": 69.4, "100": 74.1}
    text = (tmp_path / "results.md").read_text()
    assert "| ours | 82.0 ± 2.0 (3) [" in text
    assert "| *Random* | 58.9 | 69.4 | 74.1 | linear probe | ASG README |  |" in text
    # Again: its own summary is no cell.
    main(["results", str(tmp_path)])
    assert "6 cells" in capsys.readouterr().out


def test_synthetic_data_are_called_so_everywhere(tmp_path, capsys):
    write_grid(tmp_path, data={"synthetic": True})
    main(["results", str(tmp_path)])
    terminal = capsys.readouterr().out
    assert "Synthetic images" in terminal
    assert "ASG README" not in terminal
    for name in ("results.md", "results.html", "results.json"):
        assert "Synthetic images" in (tmp_path / name).read_text()
    assert "ASG README (real data)" in (tmp_path / "results.md").read_text()


def test_a_label_cannot_break_a_table(tmp_path):
    write_cell(tmp_path / "a", label="a|b")
    assert "| a\\|b | 80.0" in markdown([only_benchmark(tmp_path)])


def test_unreadable_cells_are_named(tmp_path, capsys):
    write_grid(tmp_path)
    (tmp_path / "ours" / "0.01-0" / RESULTS).write_text('{"benchmark": ')
    main(["results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "A cell that cannot be read is left out: ours/0.01-0/results.json" in out
    assert "5 cells" in out


def test_errors(tmp_path):
    with pytest.raises(NotFoundError, match="is not a folder"):
        read_cells(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="no finished cell"):
        read_cells(tmp_path)
    write_cell(tmp_path / "cell")
    with pytest.raises(UserError, match="would be overwritten"):
        read_cells(tmp_path / "cell")


def test_what_a_mean_is_of_is_said_beside_it(tmp_path, capsys):
    counted = {"n": 4, "of": 5, "what": "labels"}
    for folder, benchmark, metrics in (
        ("a", "zeroshot-chexpert", {"auroc": 0.8, "f1": 0.5}),
        ("b", "chexpert", {"auroc": 0.7}),
        ("c", "zeroshot-nih", dict.fromkeys(("auroc", "f1", "mcc", "label_accuracy", "accuracy", "recall"), 0.6)),
    ):
        cell = write_cell(tmp_path / folder, benchmark, fraction=float(folder == "b"), metrics=metrics)
        content = json.loads((cell / RESULTS).read_text())
        content["metrics"]["auroc"]["counted"] = counted
        # All of them: nothing to say.
        content["metrics"].get("f1", {})["counted"] = {**counted, "n": 5}
        (cell / RESULTS).write_text(json.dumps(content))
    main(["results", str(tmp_path)])
    text = (tmp_path / "results.md").read_text()
    for value in ("80.0", "70.0", "60.0"):
        assert re.search(rf"\| {value} \[[0-9., ]*\], 4 of 5 labels \|", text)
    assert text.count("of 5 labels") == 1 + 3  # the legend
    assert " ".join(capsys.readouterr().out.split()).count("of 5 labels") == 1 + 3
    rows = json.loads((tmp_path / "results.json").read_text())["chexpert"]["rows"]
    assert rows[0]["scores"]["auroc"]["100"]["left"] == "4 of 5 labels"


def test_a_score_without_interval():
    assert str(Score(50.04, 1.26, 2, None, None)) == "50.0 ± 1.3 (2)"
