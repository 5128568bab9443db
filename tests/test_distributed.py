"""Two gloo processes are one process on the joined batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from medvlp.data import CXRDataModule
from medvlp.distributed import gather, rank, sum_over_processes, world_size
from medvlp.models import GlobalBatchNorm, HFTextEncoder, TimmEncoder
from medvlp.objectives import GlobalAlignment, HierarchicalAlignment, RegionAlignment, TagDecoding
from medvlp.objectives.label_alignment import LabelAlignment
from medvlp.objectives.label_classification import LabelClassification
from medvlp.objectives.semantic_matching import SemanticMatching
from medvlp.objectives.sigmoid_alignment import SigmoidAlignment
from medvlp.objectives.study_alignment import StudyAlignment
from medvlp.tasks import PretrainingTask
from medvlp.types import ImageFeatures, TextFeatures
from tests.support.processes import WORLD, ForkedProcesses, in_processes, relative_error
from tests.support.tiny import make_language_model, make_prepared

pytestmark = pytest.mark.slow

STUDIES, VIEWS = 12, 2
WIDTHS = [8, 12, 16, 20]


def features():
    """Return leaf features, texts and masks of the joined batch."""
    torch.manual_seed(3)
    image = [torch.randn(STUDIES, VIEWS, 24), *(torch.randn(STUDIES, VIEWS, width, 5, 5) for width in WIDTHS)]
    text = torch.randn(2, STUDIES, 10)
    findings, impression = torch.rand(STUDIES) < 0.6, torch.rand(STUDIES) < 0.8
    findings[:6] = False  # the first process has no Findings at all
    return image, text, findings, impression


def objective_gradients(part: slice) -> tuple[float, list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Return loss, gradients of the features and of the parameters, and running statistics."""
    image, text, findings, impression = features()
    image = [t[part].clone().requires_grad_() for t in image]
    torch.manual_seed(4)
    encoder = SimpleNamespace(width=24, widths=WIDTHS)
    objective = HierarchicalAlignment(encoder, SimpleNamespace(width=10), dim=16, grid=4)  # type: ignore[arg-type]
    batch = {"image": image[0], "findings_mask": findings[part], "impression_mask": impression[part]}
    flat = [t.flatten(0, 1) for t in image]
    texts = {"findings": text[0, part], "impression": text[1, part]}
    terms = objective(ImageFeatures(flat[0], flat[1:]), TextFeatures(texts), batch)  # type: ignore[arg-type]
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    return (
        loss.item(),
        [t.grad for t in image],
        [p.grad for p in objective.parameters()],
        [b for b in objective.buffers()],
    )


def worker(number: int, folder: Path) -> None:
    assert (world_size(), rank()) == (WORLD, number)

    x = torch.full((2, 3), float(number), requires_grad=True)
    gathered = gather(x)
    assert gathered[:, 0].tolist() == [0, 0, 1, 1]
    (gathered.sum() * (number + 1)).backward()
    assert (x.grad == 3).all()  # 1 from the loss of one process, 2 from the other's
    assert gather(torch.tensor([number])).tolist() == [0, 1]
    assert sum_over_processes(torch.tensor([1.0 + number])).item() == 3

    share = STUDIES // WORLD
    result = objective_gradients(slice(number * share, (number + 1) * share))
    torch.save(result, folder / f"{number}.pt")


def test_gathered_objective_equals_the_joined_batch(tmp_path):
    in_processes(worker, tmp_path)
    loss, image, parameters, buffers = objective_gradients(slice(None))
    parts = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    assert sum(part[0] for part in parts) / WORLD == pytest.approx(loss, rel=1e-5)
    for k, expected in enumerate(image):
        # What DistributedDataParallel's mean over processes makes of each row's gradient.
        assert relative_error(torch.cat([part[1][k] for part in parts]) / WORLD, expected) < 1e-5
    largest = max(p.norm() for p in parameters)
    for k, expected in enumerate(parameters):
        got = sum(part[2][k] for part in parts) / WORLD
        # Biases before a batch norm have no gradient but rounding errors.
        assert relative_error(got, expected) < 1e-5 or (got - expected).norm() < 1e-6 * largest
    for k, expected in enumerate(buffers):
        for part in parts:
            assert relative_error(part[3][k], expected) < 1e-5


def test_global_batch_norm_alone_is_torch_batch_norm():
    x = torch.randn(9, 5)
    ours, theirs = GlobalBatchNorm(5), torch.nn.BatchNorm1d(5)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


OBJECTIVES = {
    "imitate": {"hierarchical": partial(HierarchicalAlignment, dim=16, grid=4)},
    "regions and tags alone": {
        "region": partial(RegionAlignment, dim=16, hidden=24),
        "tag": partial(TagDecoding, dim=16, hidden=24, layers=1, dropout=0),
    },
    "methods": {
        "siglip": partial(SigmoidAlignment, dim=16),
        "study": partial(StudyAlignment, dim=16),
        "medclip": partial(SemanticMatching, dim=16),
        "unicl": partial(LabelAlignment, dim=16, labels="nih"),
        "labels": LabelClassification,
    },
    "asg": {
        "report": partial(GlobalAlignment, dim=16, hidden=24),
        "region": partial(RegionAlignment, dim=16, hidden=24, negatives="batch"),
        "tag": partial(TagDecoding, dim=16, hidden=24, layers=1, dropout=0),
    },
}


@pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES)
def test_training_on_two_processes_equals_one(tmp_path, objectives):
    data, language = make_prepared(tmp_path / "data"), make_language_model(tmp_path / "bert")
    trained = []
    for devices, batch_size in ((2, 4), (1, 8)):
        L.seed_everything(0)
        task = PretrainingTask(
            # Batch norms have no statistics of all processes on a CPU; layer norms need none.
            TimmEncoder("test_convnext.r160_in1k", pretrained=False)
            if "report" not in objectives and "study" not in objectives
            else TimmEncoder("test_vit.r160_in1k", pretrained=False, image_size=32),
            HFTextEncoder(str(language)),
            objectives,
            optimizer=partial(torch.optim.SGD, lr=1e-4),
        )
        trainer = L.Trainer(
            max_steps=3,
            limit_val_batches=0,
            accelerator="cpu",
            devices=devices,
            strategy=ForkedProcesses() if devices > 1 else "auto",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path / str(devices),
        )
        parameters = dict(task.named_parameters())
        if not trained:
            trained.append({k: v.detach().clone() for k, v in parameters.items()})
        trainer.fit(task, CXRDataModule(data, batch_size, crop=32, num_workers=0, regions=True))
        trained.append({k: v.detach() for k, v in parameters.items()})
    start, two, one = (torch.cat([v.flatten() for k, v in sorted(state.items())]) for state in trained)
    assert relative_error(two - start, one - start) < 1e-4
