"""Two gloo processes with objectives of images and sentences are one process on the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvlp.objectives.cross_attention_alignment import CrossAttentionAlignment
from medvlp.objectives.query_decoding import QueryDecoding
from medvlp.objectives.sentence_patch_alignment import SentencePatchAlignment
from tests.support.processes import WORLD, in_processes, relative_error
from tests.support.sentences import Studies, make

pytestmark = pytest.mark.slow

KINDS = [
    (SentencePatchAlignment, {}),
    (SentencePatchAlignment, {"sentences": "all", "alike": "excluded"}),
    (CrossAttentionAlignment, {"layers": 1, "hidden": 20}),
    (QueryDecoding, {"layers": 1}),
    (QueryDecoding, {"layers": 1, "unmentioned": "masked", "report_weight": 0, "contrast_weight": 0}),
]


def gradients(order, views):
    """Return loss, gradients of features and of parameters of each kind of objective."""
    results = []
    for kind, options in KINDS:
        studies = Studies(views)
        for leaf in studies.leaves():
            leaf.requires_grad_()
        # In evaluation mode objectives that draw sentences take the first of each study.
        objective = make(kind, **options).eval()
        loss = torch.stack(list(objective(*studies.inputs(order)).values())).sum()
        loss.backward()
        features = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in studies.leaves()]
        results.append((loss.item(), features, [p.grad for p in objective.parameters()]))
    return results


def worker(number: int, folder: Path, parts: list[list[int]], views: int) -> None:
    torch.save(gradients(parts[number], views), folder / f"{number}.pt")


# In the second, the first process has the study without any sentence; in the third, it has nothing else.
@pytest.mark.parametrize(
    ("parts", "views"),
    [([[0, 1, 2, 3], [4, 5, 6, 7]], 2), ([[2, 4, 0, 6], [1, 3, 5, 7]], 1), ([[2], [3]], 1)],
    ids=["halves", "uneven", "nothing"],
)
def test_two_processes_equal_the_joined_batch(tmp_path, parts, views):
    in_processes(worker, tmp_path, parts, views)
    shares = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    joined = gradients([study for part in parts for study in part], views)
    for k, (loss, features, parameters) in enumerate(joined):
        mine = [share[k] for share in shares]
        assert sum(part[0] for part in mine) / WORLD == pytest.approx(loss, rel=1e-5, abs=1e-7), KINDS[k]
        largest = max(p.norm() for p in parameters)
        # What DistributedDataParallel's mean over processes makes of the gradients.
        for which, expected in ((1, features), (2, parameters)):
            for j, value in enumerate(expected):
                got = sum(part[which][j] for part in mine) / WORLD
                assert relative_error(got, value) < 1e-4 or (got - value).norm() < 1e-5 * largest + 1e-8, KINDS[k]
