"""Grounding of a checkpoint: against slow computations, other batches, and maps that are known to be right or wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from medvlp.__main__ import main
from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.metrics.bootstrap import weights
from medvlp.models import TimmEncoder
from medvlp.prepared import BOX_TYPE, INDEX, MANIFEST, Prepared
from medvlp.tasks import GroundingTask
from medvlp.tasks.grounding import METRICS
from tests.support.runs import QUIET, clear_environment
from tests.support.tiny import make_language_model, make_prepared, options

pytestmark = pytest.mark.slow

SIDE, CROP, MARGIN = 80, 64, 8


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory):
    """A folder with tiny data in which a model was pre-trained, and an environment that is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        clear_environment(patch)
        make_prepared(Path("data"), size=SIDE)
        make_language_model(Path("bert"))
        tiny = options(Path("data"), Path("bert"))
        once = ["--trainer.max_epochs=1", "--trainer.logger=false", f"--data.crop={CROP}", "--data.resize=null"]
        main(["fit", "-c", "imitate_asg", "-c", "overlays/small_imitate_asg", *tiny, *once])
        yield


@pytest.fixture(scope="module")
def checkpoint(workplace):
    return Path("runs/checkpoints/last.ckpt").resolve()


def with_boxes(root, boxes):
    """Copy the data with other objects: of each test image a list of (name, phrase, box of 40 x 40), or None."""
    shutil.copytree("data", root)
    rows = pq.read_table(root / INDEX).to_pylist()
    for row in rows:
        row["boxes"] = None
    tested = [row for row in rows if row["split"] == "test"]
    keys = ("name", "phrase", "x1", "y1", "x2", "y2")
    for row, objects in zip(tested, boxes, strict=False):
        if objects is not None:
            row["boxes"] = [
                dict(zip(keys, (name, phrase, *(2 * edge for edge in box)), strict=True))
                for name, phrase, box in objects
            ]
    table = pq.read_table(root / INDEX)
    place = table.schema.get_field_index("boxes")
    column = pa.array([row["boxes"] for row in rows], pa.list_(BOX_TYPE))
    pq.write_table(table.set_column(place, "boxes", column), root / INDEX)
    return root


@pytest.fixture(scope="module")
def phrases(workplace):
    boxes = [
        [("Effusion", "small left effusion", (2, 20, 16, 40)), ("Effusion", "small left effusion", (24, 20, 40, 36))],
        [("Heart", None, (10, 5, 30.5, 18)), ("Heart", None, (6, 6, 12, 12)), ("Effusion", None, (20, 20, 36, 36))],
        [],
        None,
        [("Effusion", "effusion", (0, 0, 3, 40)), ("Heart", "effusion", (5, 5, 20, 20))],
        [("Device", "bananas", (8, 8, 30, 30)), ("Heart", "heart", (0, 0, 40, 40))],
    ]
    return with_boxes(Path("phrases"), boxes)


def run(task, root, batch_size=5, **data):
    """Test a task; return it."""
    data = {"targets": "box"} | data
    module = CXRDataModule(root, batch_size=batch_size, num_workers=0, **data)
    Trainer(**QUIET).test(task, module, verbose=False)
    return task


def slow_metrics(heat, boxes, sigma, threshold):
    """All metrics of one map (h, w) and boxes in an image of 40 x 40, pixel by pixel inside the crop."""
    heat = gaussian_filter(heat.astype(np.float64), sigma) if sigma else heat.astype(np.float64)
    tensor = torch.from_numpy(heat)[None, None]
    values = F.interpolate(tensor, (CROP, CROP), mode="bilinear", align_corners=False)[0, 0].numpy().ravel()
    centre = [(MARGIN + x + 0.5, MARGIN + y + 0.5) for y in range(CROP) for x in range(CROP)]
    step = CROP / len(heat)
    highest = [(MARGIN + (x + 0.5) * step, MARGIN + (y + 0.5) * step) for y, x in np.argwhere(heat == heat.max())]

    def boxed(points):
        return np.array(
            [any(x1 <= x < x2 and y1 <= y < y2 for x1, y1, x2, y2 in 2 * np.array(boxes)) for x, y in points]
        )

    inside = boxed(centre)
    if not inside.any():
        return dict.fromkeys(METRICS, np.nan)
    a, b = values[inside], values[~inside]
    signed = (a.mean() - b.mean()) / (a.var() + b.var()) ** 0.5 if len(b) else np.nan
    scaled = (values - values.min()) / (values.max() - values.min())

    def compare(level):
        found = scaled > level
        both, either = (found & inside).sum(), (found | inside).sum()
        return both / either, 2 * both / (found.sum() + inside.sum()), both / inside.sum()

    iou, dice, recall = compare(threshold)
    return {
        "pointing": boxed(highest).mean(),
        "pointing_chance": inside.mean(),
        "cnr": abs(signed),
        "cnr_signed": signed,
        "miou": np.mean([compare(level)[0] for level in (0.1, 0.2, 0.3, 0.4, 0.5)]),
        "dice": dice,
        "recall": recall,
        "iou": iou,
    }


EXPECTED = [
    ("image3", "Effusion", "small left effusion", [(2, 20, 16, 40), (24, 20, 40, 36)]),
    ("image7", "Heart", "enlarged heart", [(10, 5, 30.5, 18), (6, 6, 12, 12)]),
    ("image7", "Effusion", "effusion", [(20, 20, 36, 36)]),
    ("image19", "Effusion", "effusion", [(0, 0, 3, 40)]),
    ("image19", "Heart", "effusion", [(5, 5, 20, 20)]),
    ("image23", "Device", "bananas", [(8, 8, 30, 30)]),
    ("image23", "Heart", "heart", [(0, 0, 40, 40)]),
]


@pytest.mark.parametrize("source", ["region", "global", "tag"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_metrics_by_hand(checkpoint, phrases, source, smoothing):
    names = {"Heart": "enlarged heart"}
    task = run(GroundingTask(checkpoint, source, phrases=names, smoothing=smoothing, threshold=0.3), phrases)
    rows = task.predictions.to_pylist()
    assert [(row["image_id"], row["name"], row["phrase"]) for row in rows] == [row[:3] for row in EXPECTED]
    assert task.predictions.column_names[0] == "image_id"
    prepared = Prepared.open(phrases)
    index = {row["image_id"]: row["row"] for row in prepared.index.to_pylist()}
    for row, (image_id, _, text, boxes) in zip(rows, EXPECTED, strict=True):
        known = source != "tag" or text not in ("bananas", "heart")
        assert row["known"] == known
        if not known:
            assert all(row[name] is None for name in METRICS)
            continue
        crop = prepared.images[index[image_id]][MARGIN:-MARGIN, MARGIN:-MARGIN]
        with torch.inference_mode():
            heat = task.model.text_heat_maps(torch.from_numpy(crop.copy())[None], [text], source)[0, 0].numpy()
        expected = slow_metrics(heat, boxes, smoothing * len(heat), 0.3)
        got = {name: row[name] for name in METRICS}
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-3, nan_ok=True)
    # Means over pairs; nothing of the first effusion of image19 is in the crop, and the whole crop is in its heart.
    for name in METRICS:
        values = [row[name] for row in rows if row[name] is not None and np.isfinite(row[name])]
        assert task.statistics[name].value == pytest.approx(np.mean(values))
        assert task.statistics[name].counted == (len(values), 7, "phrases")
    assert task.statistics["cnr/Effusion"].counted == (2, 3, "phrases")
    outside = "phrases with all boxes outside the crop"
    assert task.left_out[outside] == "1 of 7"
    if source == "tag":
        assert task.left_out["phrases that name nothing the tag maps know"] == "2 of 7"
    else:
        assert set(task.left_out) == {outside}
        hearts = [row["pointing"] for row in rows if row["name"] == "Heart"]
        assert task.statistics["pointing/Heart"].value == pytest.approx(np.mean(hearts))


def test_phrases_are_found_whatever_the_capitals_of_their_names(checkpoint, phrases):
    task = run(GroundingTask(checkpoint, phrases={"HEART": "enlarged heart"}), phrases)
    assert [row["phrase"] for row in task.predictions.to_pylist()] == [phrase for _, _, phrase, _ in EXPECTED]


def test_intervals_are_of_images_with_all_their_phrases(checkpoint, phrases):
    task = run(GroundingTask(checkpoint, smoothing=0.0), phrases)
    rows = task.predictions.to_pylist()
    # The image without phrases is one of the test set, the one that nobody has looked at is none.
    images = ["image3", "image7", "image11", "image19", "image23"]
    drawn = list(weights(5, 20))
    for name in ("cnr", "pointing_chance"):
        for replicate, weight in zip(task.statistics[name].replicates, drawn, strict=False):
            pairs = [(weight[images.index(r["image_id"])], r[name]) for r in rows if np.isfinite(r[name])]
            total = sum(w for w, _ in pairs)
            expected = sum(w * value for w, value in pairs) / total if total else np.nan
            assert replicate == pytest.approx(expected, nan_ok=True)


def test_magnified_images_have_finer_maps(checkpoint, phrases):
    task = run(GroundingTask(checkpoint, magnify=2.0), phrases)
    assert (task.framing.resize, task.framing.crop) == (2 * SIDE, 2 * CROP)
    assert task.model.preprocessing.crop == CROP
    chance = run(GroundingTask(checkpoint), phrases).predictions["pointing_chance"].to_numpy()
    np.testing.assert_allclose(task.predictions["pointing_chance"].to_numpy(), chance)
    heat = task.model.text_heat_maps(torch.zeros(1, 2 * CROP, 2 * CROP, dtype=torch.uint8), ["effusion"], "region")
    assert heat.shape == (1, 1, 8, 8)


def test_batches_change_nothing(checkpoint, phrases):
    expected = run(GroundingTask(checkpoint, "global"), phrases, batch_size=12).predictions
    got = run(GroundingTask(checkpoint, "global"), phrases, batch_size=1).predictions
    for name in ("image_id", "name", "phrase"):
        assert got[name].to_pylist() == expected[name].to_pylist()
    for name in METRICS:
        np.testing.assert_allclose(got[name].to_numpy(), expected[name].to_numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("resize", [None, 40])
def test_a_map_of_the_truth_is_right_and_its_opposite_wrong(checkpoint, phrases, monkeypatch, resize):
    # Boxes in the corners of a grid of 4 x 4 patches on the crop, which is 0.8 of the image.
    boxes = [[("Heart", None, (4 + 8 * x, 4 + 8 * y, 12 + 8 * x, 12 + 8 * y))] for x, y in ((0, 0), (3, 1), (2, 3))]
    root = with_boxes(Path(f"right{resize}"), boxes)
    for sign, hit in ((1.0, 1.0), (-1.0, 0.0)):
        task = GroundingTask(checkpoint, smoothing=0.0)
        task.model.preprocessing = type(task.model.preprocessing)(
            SIDE, "pad", resize, CROP if resize is None else CROP // 2
        )
        answers = iter(((0, 0), (3, 1), (2, 3)))

        def known(image, texts, source, answers=answers, sign=sign):
            heat = torch.zeros(len(image), len(texts), 4, 4)
            for own in heat:
                x, y = next(answers)
                own[:, y, x] = sign
            return heat

        monkeypatch.setattr(task.model, "text_heat_maps", known)
        statistics = run(task, root).statistics
        assert statistics["pointing"].value == hit
        assert statistics["pointing_chance"].value == pytest.approx(1 / 16)
        assert np.sign(statistics["cnr_signed"].value) == sign
        assert statistics["cnr"].value == pytest.approx(abs(statistics["cnr_signed"].value))
        assert statistics["recall"].value == (pytest.approx(1.0, abs=0.5) if hit else pytest.approx(0, abs=0.3))


def test_sentences_against_the_regions_they_are_about(checkpoint):
    task = run(GroundingTask(checkpoint, truth="regions"), Path("data"), targets=None, regions=True)
    prepared = Prepared.open(Path("data"))
    tested = [row for row in prepared.index.to_pylist() if row["split"] == "test"]
    said = task.predictions.to_pylist()
    assert set(task.predictions["name"].to_pylist()) == {None}
    assert not [name for name in task.statistics if "/" in name]
    regions = {region["name"]: region for region in tested[0]["regions"]}
    corner = regions["right costophrenic angle"]
    width = min(corner["x2"], SIDE - MARGIN) - max(corner["x1"], MARGIN)
    share = width * (min(corner["y2"], SIDE - MARGIN) - max(corner["y1"], MARGIN)) / CROP**2
    effusions = [row for row in said if row["phrase"].endswith("right pleural effusion .")]
    assert effusions
    assert all(row["pointing_chance"] == pytest.approx(share) for row in effusions)
    assert {row["image_id"] for row in said} <= {row["image_id"] for row in tested}


@pytest.fixture(scope="module")
def regions(workplace):
    """Return the data with regions that the manifest says are of a source, by its name; None for none."""

    def copy(source):
        root = Path(f"regions-{str(source)[:4]}")
        if not root.exists():
            shutil.copytree("data", root)
            manifest = json.loads((root / MANIFEST).read_text())
            manifest["options"] |= {"regions": source} if source else {}
            (root / MANIFEST).write_text(json.dumps(manifest))
        return root

    return copy


CONFIGS = {"scene graphs": "grounding/chest_imagenome", "automatic": "grounding/regions"}
SOURCES = ["scene graphs", "automatic, localiser 0b953079b94a", "none", None]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("wanted", CONFIGS)
def test_regions_are_of_the_source_that_the_benchmark_is_named_after(
    checkpoint, regions, tmp_path, capsys, monkeypatch, wanted, source
):
    root = regions(source)
    name = "grounding-chest-imagenome" if wanted == "scene graphs" else "grounding-regions"
    tiny = ["--trainer.accelerator=cpu", "--data.num_workers=0", "--trainer.logger=false"]
    own = [f"--data.root={root}", "--data.split=null", f"--trainer.default_root_dir={tmp_path / 'test'}"]
    test = ["test", "-c", CONFIGS[wanted], f"--model.weights={checkpoint}", *tiny, *own]
    more = " ".join([*tiny, f"--data.root={root}", "--data.split=null"])
    benchmark = ["benchmark", name, "--weights", str(checkpoint), "--out", str(tmp_path / "b"), "--args", more]
    if str(source).startswith(wanted):
        main(test)
        main(benchmark)
        for path in tmp_path.rglob("results.json"):
            content = json.loads(path.read_text())
            assert content["benchmark"] == name
            assert content["data"]["options"]["regions"] == source
            (note,) = (note for note in content["notes"] if "boxes" in note)
            assert ("detector (silver" if wanted == "scene graphs" else "no truth") in note
            assert "medvlp's own rules" in note
        assert len(list(tmp_path.rglob("results.json"))) == 2
        return
    monkeypatch.setattr(TimmEncoder, "forward", lambda *args: pytest.fail("an image was encoded"))
    for command in (test, benchmark):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
        assert f"region_source='{wanted}', but the regions in root='{root}' are" in line
        assert "grounding-regions" in line or "grounding-chest-imagenome" in line
    assert not list(tmp_path.rglob("*.json"))


def test_all_of_grounding_leave_out_what_the_data_are_not_for(checkpoint, regions, tmp_path, capsys):
    root = regions("automatic")
    place = tmp_path / "data"
    place.mkdir()
    (place / "mimic_cxr").symlink_to(root.resolve())
    more = "--trainer.accelerator cpu --data.num_workers 0 --trainer.logger false --data.split null"
    command = ["benchmark", "grounding", "--weights", str(checkpoint), "--out", str(tmp_path / "b"), "--args", more]
    main([*command, "--data", str(place)])
    out = " ".join(capsys.readouterr().out.split())
    assert "grounding-chest-imagenome is left out: region_source='scene graphs'" in out
    assert "grounding-ms-cxr is left out" in out
    (path,) = (tmp_path / "b").rglob("results.json")
    assert json.loads(path.read_text())["benchmark"] == "grounding-regions"


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({}, {"targets": None}, r"truth='boxes'.*--data\.targets box"),
        ({"truth": "regions"}, {}, r"truth='regions'.*--data\.regions true"),
    ],
)
def test_truth_must_be_asked_for(checkpoint, phrases, options, data, message):
    with pytest.raises(UserError, match=message):
        run(GroundingTask(checkpoint, **options), phrases, **data)


def test_nothing_to_find(checkpoint):
    root = with_boxes(Path("outside"), [[("Effusion", "effusion", (0, 0, 3, 40))], []])
    with pytest.raises(UserError, match=r"no phrase to find.*outside the crop: 1 of 1"):
        run(GroundingTask(checkpoint), root)
    root = with_boxes(Path("nothing"), [[]])
    with pytest.raises(UserError, match="no phrase to find"):
        run(GroundingTask(checkpoint), root)


def test_a_source_that_the_model_lacks(tmp_path, workplace):
    tiny = options(Path("data"), Path("bert"))
    run_options = ["--trainer.max_epochs=1", "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    main(["fit", "-c", "imitate", *tiny, *run_options])
    (path,) = tmp_path.rglob("last.ckpt")
    with pytest.raises(UserError, match=r"source='region'.*has no such heat maps, but global"):
        GroundingTask(path, "region")
    assert GroundingTask(path).source == "global"  # the best that it has


def test_results_of_the_benchmark(checkpoint, phrases, tmp_path):
    tiny = [
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--data.num_workers=0",
        "--trainer.logger=false",
    ]
    data = [
        f"--data.root={phrases.resolve()}",
        "--data.split=null",
        "--data.num_workers=0",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    main(["test", "-c", "grounding/ms_cxr", f"--model.weights={checkpoint}", *tiny, *data])
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["benchmark"] == "grounding-ms-cxr"
    assert content["how"] == "region maps"
    assert {"pointing", "pointing_chance", "cnr", "miou"} <= set(content["metrics"])
    assert content["protocol"]["smoothing"] == 0.0
    assert pq.read_table(tmp_path / "predictions.parquet").column_names[:3] == ["image_id", "name", "phrase"]
