"""Paired differences against a slow loop, and what they say."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from medvlp.benchmarks.results import BOOTSTRAP, read_cells
from medvlp.compare.figures import Difference, figures, frequent, read_sample
from medvlp.metrics import Statistic, auroc
from medvlp.metrics.bootstrap import mean_of, median_of
from tests.support.invented import write_cell

N, SAMPLES, LABELS = 60, 100, ("Cardiomegaly", "Edema", "Rare")


def invented(folder, shift=0.0, seed=0, target_seed=0):
    """Write the cell of a test with random scores, of which a shift makes the labels' better."""
    target = np.random.default_rng(target_seed).random((N, 3)) < [0.4, 0.3, 0.05]
    scores = np.random.default_rng(100 + seed).normal(size=(N, 3)) + shift * target
    statistics = {
        f"auroc/{n}": Statistic.of(auroc(scores[:, i], target[:, i]), N, SAMPLES) for i, n in enumerate(LABELS)
    }
    statistics["auroc"] = Statistic.mean([*statistics.values()])
    rank = np.random.default_rng(200 + seed).integers(1, 50, N) / (1 + shift)
    statistics |= {"i2t_R@5": Statistic.of(mean_of(rank <= 5), N, SAMPLES)}
    statistics["i2t_median_rank"] = Statistic.of(median_of(rank), N, SAMPLES)
    columns = {"image_id": [f"image{i}" for i in range(N)], "i2t_rank": rank}
    columns |= {f"target/{name}": target[:, i].astype(np.int8) for i, name in enumerate(LABELS)}
    columns |= {f"score/{name}": scores[:, i] for i, name in enumerate(LABELS)}
    cell = write_cell(folder, metrics={n: s.value for n, s in statistics.items()}, predictions=pa.table(columns))
    pq.write_table(pa.table({name: s.replicates for name, s in statistics.items()}), cell / BOOTSTRAP)
    (read,), _ = read_cells(folder.parent)
    return read


@pytest.fixture
def samples(tmp_path):
    def of(method, shift):
        return {
            s: read_sample(invented(tmp_path / method / str(s) / "cell", shift, 10 * len(method) + s), 10)
            for s in (0, 1)
        }

    return {"base": of("base", 0.5), "better": of("better", 1.5)}


def slow(tmp_path, metric):
    """Resample the images one by one, and compute the metric of each method and seed from their predictions."""
    tables = {
        (m, s): pq.read_table(tmp_path / m / str(s) / "cell" / "predictions.parquet").to_pydict()
        for m in ("base", "better")
        for s in (0, 1)
    }
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(SAMPLES):
        drawn = rng.integers(N, size=N)
        values = {}
        for key, table in tables.items():
            column = {name: np.array(values)[drawn] for name, values in table.items()}
            if metric == "auroc":
                areas = [roc_auc_score(column[f"target/{name}"], column[f"score/{name}"]) for name in LABELS[:2]]
                values[key] = np.mean(areas)
            elif metric == "i2t_R@5":
                values[key] = np.mean(column["i2t_rank"] <= 5)
            else:
                values[key] = np.median(column["i2t_rank"])
        differences.append(np.mean([values["better", s] - values["base", s] for s in (0, 1)]))
    return np.quantile(differences, [0.025, 0.975])


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "scale"), [("auroc", 100), ("i2t_R@5", 100), ("i2t_median_rank", 1)])
def test_difference_is_that_of_a_slow_loop(tmp_path, samples, metric, scale):
    found, notes = figures(samples, "base")
    difference = found["better"][metric].difference
    assert (difference.low, difference.high) == pytest.approx(tuple(scale * slow(tmp_path, metric)))
    values = {m: [s.statistics[metric].value for s in of.values()] for m, of in samples.items()}
    assert difference.mean == pytest.approx(scale * (np.mean(values["better"]) - np.mean(values["base"])))
    assert notes == []
    assert found["base"][metric].difference is None


def test_pairing_narrows_the_interval(samples):
    """Two methods with nearly the same scores: their own intervals are wide, that of the difference is not."""
    twin = {"base": samples["base"], "twin": samples["base"]}
    figure = figures(twin, "base")[0]["twin"]["auroc"]
    assert figure.score.high - figure.score.low > 5
    assert (figure.difference.low, figure.difference.high) == (0, 0)
    assert figure.difference.verdict == "not separated"


def test_rare_labels_do_not_count(tmp_path):
    cell = invented(tmp_path / "cell", 1.0)
    every, some, none = (read_sample(cell, least) for least in (1, 10, 1000))
    assert set(every.labels) == set(LABELS)
    assert set(some.labels) == set(LABELS[:2])
    parts = [some.statistics[f"auroc/{name}"].value for name in LABELS[:2]]
    assert some.statistics["auroc"].value == pytest.approx(np.mean(parts))
    assert some.statistics["auroc"].counted == (2, 3, "labels")
    assert every.statistics["auroc"].value != some.statistics["auroc"].value
    assert "auroc" not in none.statistics
    assert "auroc/Edema" in none.statistics


def test_a_label_that_is_not_known_is_no_case():
    column = pa.array([1, 0, None, 1], pa.int8())
    assert frequent(pa.table({"target/A": column, "target/B": pa.array([None] * 4, pa.int8())}), 2) == {"A": 2}


@pytest.mark.parametrize(
    ("low", "high", "seeds", "lower", "verdict"),
    [
        (0.5, 2, [1, 1.5], False, "better"),
        (0.5, 2, [1, 1.5], True, "worse"),
        (-2, -0.5, [-1, -1.5], False, "worse"),
        (-2, -0.5, [-1, -1.5], True, "better"),
        (-0.5, 2, [1, 1.5], False, "not separated"),
        (0, 2, [1, 1.5], False, "not separated"),
        (0.5, 2, [-1, 3.5], False, "not separated: seeds disagree"),
    ],
)
def test_verdicts(low, high, seeds, lower, verdict):
    difference = Difference(float(np.mean(seeds)), low, high, dict(enumerate(seeds)), 1, lower)
    assert difference.verdict == verdict
    assert str(difference).endswith(f"[{low:.1f}, {high:.1f}] {verdict}")


def test_other_cases_are_not_paired(tmp_path):
    base = {0: read_sample(invented(tmp_path / "a" / "cell"), 1)}
    other = {0: read_sample(invented(tmp_path / "b" / "cell", target_seed=1), 1)}
    found, notes = figures({"base": base, "other": other}, "base")
    assert found["other"]["auroc"].difference is None
    assert notes == ["other was tested on other cases than base (seed 0): not compared."]


def test_seeds_that_one_of_them_lacks_are_left_out(samples):
    half = {"base": samples["base"], "better": {1: samples["better"][1]}}
    found, notes = figures(half, "base")
    assert list(found["better"]["auroc"].difference.seeds) == [1]
    assert notes == ["better is compared with base by seed 1 alone: the others are not finished."]
    assert figures({"better": samples["better"]}, "base")[0]["better"]["auroc"].difference is None
