"""Two gloo processes with the objectives of whole images are one process on the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.joint import KINDS, Studies, make
from tests.support.processes import WORLD, in_processes, relative_error

pytestmark = pytest.mark.slow


def gradients(order, views):
    """Return loss and gradients of features and of parameters of each kind of objective."""
    results = []
    for kind, options in KINDS:
        studies = Studies(views)
        for leaf in studies.leaves():
            leaf.requires_grad_()
        # In evaluation no sentence is drawn: two processes draw others than one.
        objective = make(kind, **options).eval()
        loss = torch.stack(list(objective(*studies.inputs(order)).values())).sum()
        loss.backward()
        features = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in studies.leaves()]
        results.append((loss.item(), features, [p.grad for p in objective.parameters()]))
    return results


def worker(number: int, folder: Path, parts: list[list[int]], views: int) -> None:
    torch.save(gradients(parts[number], views), folder / f"{number}.pt")


# In the second, the first process has the study without any text.
@pytest.mark.parametrize(
    ("parts", "views"),
    [([[0, 1, 2, 3], [4, 5, 6, 7]], 2), ([[2], [1]], 1)],
    ids=["halves", "nothing"],
)
def test_two_processes_equal_the_joined_batch(tmp_path, parts, views):
    in_processes(worker, tmp_path, parts, views)
    shares = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    joined = gradients([study for part in parts for study in part], views)
    for k, (loss, features, parameters) in enumerate(joined):
        mine = [share[k] for share in shares]
        assert sum(part[0] for part in mine) / WORLD == pytest.approx(loss, rel=1e-5, abs=1e-6), KINDS[k]
        largest = max(p.norm() for p in parameters)
        # What DistributedDataParallel's mean over processes makes of the gradients.
        for which, expected in ((1, features), (2, parameters)):
            for j, value in enumerate(expected):
                got = sum(part[which][j] for part in mine) / WORLD
                assert relative_error(got, value) < 1e-4 or (got - value).norm() <= 1e-5 * largest, KINDS[k]
