"""Pre-training that can learn nothing from its data is refused before the first step, in words."""

from functools import partial

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.models import HFTextEncoder, TimmEncoder
from medvlp.objectives import GlobalAlignment, HierarchicalAlignment, RegionAlignment, TagDecoding
from medvlp.objectives.study_alignment import StudyAlignment
from medvlp.parse import write_triplets
from medvlp.prepared import IMAGES, INDEX, TRIPLETS
from medvlp.tasks import PretrainingTask
from tests.support.tiny import LABELS, make_prepared

pytestmark = pytest.mark.slow

IMITATE = {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4)}
FLAT = {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4, alignment="flat")}
LOCAL = {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4, gathered=False)}
REPORT = {"report": partial(GlobalAlignment, dim=16, hidden=24)}
CLIP = {"report": partial(GlobalAlignment, dim=16, hidden=24, soft_label_weight=0.0)}
REGION = {"region": partial(RegionAlignment, dim=16, hidden=24)}
TAG = {"tag": partial(TagDecoding, dim=16, hidden=24, layers=1)}


@pytest.fixture
def root(tmp_path):
    return make_prepared(tmp_path / "data")


class Steps(L.Callback):
    def __init__(self):
        self.count = 0

    def on_train_batch_start(self, *args):
        self.count += 1


def fit(root, language, objectives, trainer=None, encoder=HFTextEncoder, backbone="test_resnet.r160_in1k", **options):
    """Run one epoch; return the number of steps, and the error."""
    L.seed_everything(0)
    task = PretrainingTask(TimmEncoder(backbone, pretrained=False), encoder(str(language)), objectives)
    steps = Steps()
    made = L.Trainer(
        **{
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "callbacks": [steps],
            **(trainer or {}),
        }
    )
    data = CXRDataModule(root, **{"batch_size": 8, "crop": 32, "num_workers": 0, "views": 1, **options})
    try:
        made.fit(task, data)
    except UserError as error:
        assert steps.count == 0
        return 0, str(error)
    return steps.count, ""


def rewrite(root, change):
    """Change the rows of the index."""
    table = pq.read_table(root / INDEX)
    rows = [{**row, **change(i, row)} for i, row in enumerate(table.to_pylist())]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), root / INDEX)
    reports = [(r["study_id"], {"findings": r["findings"] or "", "impression": r["impression"] or ""}) for r in rows]
    (root / TRIPLETS).unlink()
    if any(findings or impression for findings, impression in (texts.values() for _, texts in reports)):
        write_triplets(reports, root / TRIPLETS, workers=1)


NO_REPORT = {"findings": None, "impression": None}


@pytest.mark.parametrize("objectives", [IMITATE, FLAT, REPORT, CLIP], ids=["imitate", "flat", "ira+erl", "clip"])
@pytest.mark.parametrize("text", [None, "", "  "])
def test_without_reports(root, language, objectives, text):
    rewrite(root, lambda i, row: {"findings": text, "impression": text})
    _, error = fit(root, language, objectives)
    assert "of the 24 training images" in error
    assert "none has" in error
    assert "comes without reports" in error


@pytest.mark.parametrize("trainer", [{}, {"limit_val_batches": 0}, {"num_sanity_val_steps": 0}])
@pytest.mark.parametrize("objectives", [REGION, TAG, REPORT | REGION | TAG], ids=["region", "tag", "asg"])
def test_asg_without_reports(root, language, objectives, trainer):
    rewrite(root, lambda i, row: NO_REPORT)
    _, error = fit(root, language, objectives, trainer, regions="region" in objectives)
    assert "report" in error
    assert "\n" not in error


@pytest.mark.parametrize("findings", [None, "normal ."])
def test_a_section_that_tells_nothing(root, language, findings):
    rewrite(root, lambda i, row: {"findings": findings, "impression": row["impression"] or "normal ."})
    reason = "none has Findings" if findings is None else "all 24 with Findings say word for word the same"
    with pytest.warns(UserWarning, match=f"{reason}: objective 'hierarchical' learns from the other section alone"):
        assert fit(root, language, IMITATE) == (3, "")
    assert fit(root, language, FLAT) == (3, "")
    assert fit(root, language, REPORT) == (3, "")


@pytest.mark.parametrize("objectives", [IMITATE, CLIP])
def test_all_texts_alike(root, language, objectives):
    rewrite(root, lambda i, row: {"findings": "normal .", "impression": "normal ."})
    _, error = fit(root, language, objectives)
    assert "word for word the same" in error


def test_all_findings_alike(root, language):
    rewrite(root, lambda i, row: {"findings": f"no cardiomegaly . {i}", "impression": None})
    _, error = fit(root, language, TAG)
    assert "says the same of every finding" in error


def test_reports_that_say_nothing_of_findings_or_regions(root, language):
    rewrite(root, lambda i, row: {"findings": "there is small " * (1 + i % 3), "impression": None})
    _, error = fit(root, language, TAG)
    assert "says the same of every finding" in error
    _, error = fit(root, language, REGION, regions=True)
    assert "mentions a region" in error
    assert fit(root, language, CLIP) == (3, "")


@pytest.mark.parametrize("objectives", [REPORT, TAG])
def test_reports_without_triplets(root, language, objectives):
    (root / TRIPLETS).unlink()
    _, error = fit(root, language, objectives)
    assert "has no triplets" in error
    assert "medvlp parse --input" in error
    assert "soft_label_weight 0" in error
    assert fit(root, language, CLIP) == (3, "")


def test_regions_that_no_report_speaks_of(root, language):
    boxes = [{"name": "spine", "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0}]
    rewrite(root, lambda i, row: {"regions": boxes})
    _, error = fit(root, language, REGION, regions=True)
    assert "mentions a region that has a box in it" in error


@pytest.mark.parametrize("objectives", [IMITATE, LOCAL, REPORT, REPORT | TAG])
def test_a_batch_of_one(root, language, objectives):
    _, error = fit(root, language, objectives, batch_size=1)
    assert "batch_size=1, but objective" in error
    assert "at least 2 per process" in error


def test_a_batch_of_one_is_enough_for_tags_and_regions(root, language):
    layer_norm = "test_convnext.r160_in1k"
    few = {"batch_size": 1, "regions": True, "fraction": 0.25}
    assert fit(root, language, TAG | REGION, backbone=layer_norm, **few) == (6, "")


def test_a_single_training_image(root, language):
    _, error = fit(root, language, IMITATE, fraction=0.01, drop_last=False)
    assert "training has 1 image per process, but objective" in error


@pytest.mark.parametrize("trainer", [{}, {"num_sanity_val_steps": 0}])
def test_an_empty_split(root, language, trainer):
    _, error = fit(root, language, IMITATE, trainer, train_splits=["trian"])
    assert "splits=['trian']" in error
    assert "splits there: test, train, validate" in error
    _, error = fit(root, language, IMITATE, trainer, validation_splits=["valid"])
    assert "validation_splits=['valid']" in error
    assert fit(root, language, IMITATE, {"limit_val_batches": 0}, validation_splits=["valid"]) == (3, "")


def test_training_on_the_validation_split_is_said(root, language):
    with pytest.warns(UserWarning, match="Split 'validate' is used for both training and validation"):
        fit(root, language, IMITATE, train_splits=["train", "validate"])


def test_validation_without_reports_is_said(root, language):
    rewrite(root, lambda i, row: NO_REPORT if row["split"] == "validate" else {})
    with pytest.warns(UserWarning, match=r"no reports: val/quality, which chooses the best checkpoint, is 0"):
        assert fit(root, language, CLIP) == (3, "")


@pytest.mark.parametrize("value", [0, 77])
def test_images_that_are_all_alike(root, language, value):
    images = np.load(root / IMAGES, mmap_mode="r+")
    images[:] = value
    images.flush()
    _, error = fit(root, language, IMITATE)
    assert "are all the same" in error


def test_a_text_encoder_that_hears_no_difference(root, language):
    class Deaf(HFTextEncoder):
        def pool(self, hidden, mask):
            return torch.ones_like(hidden[:, 0])

    _, error = fit(root, language, IMITATE, encoder=Deaf)
    assert "different texts the same embedding" in error


def test_without_objectives(language):
    with pytest.raises(UserError, match="objectives is empty"):
        fit("nowhere", language, {})
    with pytest.raises(UserError, match="no term left"):
        fit("nowhere", language, {"report": partial(GlobalAlignment, weight=0.0, soft_label_weight=0.0)})


def test_what_there_is_to_learn_is_said(root, language, caplog):
    assert fit(root, language, IMITATE | REGION, regions=True) == (3, "")
    (line,) = (message for message in caplog.messages if message.startswith("Training on"))
    assert "Training on 24 images" in line
    assert "with Findings" in line
    assert "different sentences about regions" in line


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (LABELS, ""),
        ([LABELS[1], LABELS[0], LABELS[2]], "Name them all so."),
        (LABELS[:2], "in this order: ['Cardiomegaly', 'Pleural Effusion', 'Support Devices']"),
    ],
)
def test_an_objective_names_the_labels_of_the_folder_in_their_order(root, language, labels, error):
    """These train without a report, too."""
    rewrite(root, lambda i, row: NO_REPORT)
    steps, got = fit(root, language, {"study": partial(StudyAlignment, dim=8, labels=labels)})
    assert error in got
    assert steps == (0 if error else 3)
