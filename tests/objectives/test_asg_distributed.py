"""Two gloo processes with ASG's objectives are one process on the joined batch, however regions are shared out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvlp.distributed import gather_rows
from tests.support.asg import KINDS, Studies, make
from tests.support.processes import WORLD, in_processes, relative_error

pytestmark = pytest.mark.slow

STUDIES = 8


def gradients(order, views):
    """Return loss, gradients of features and of parameters, and running statistics of each kind of objective."""
    results = []
    for kind, options in KINDS:
        studies = Studies(views)
        studies.has_report[6] = False
        for leaf in studies.leaves():
            leaf.requires_grad_()
        objective = make(kind, **options)
        loss = torch.stack(list(objective(*studies.inputs(order)).values())).sum()
        loss.backward()
        features = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in studies.leaves()]
        buffers = [b for b in objective.buffers() if b.is_floating_point()]
        results.append((loss.item(), features, [p.grad for p in objective.parameters()], buffers))
    return results


def worker(number: int, folder: Path, parts: list[list[int]], views: int) -> None:
    rows = torch.full((3 * number, 2), float(number), requires_grad=True)
    gathered = gather_rows(rows)
    assert gathered.shape == (3, 2)
    (gathered.sum() * (number + 1)).backward()
    assert (rows.grad == 3).all()
    torch.save(gradients(parts[number], views), folder / f"{number}.pt")


# In the second, the first process has the study without any region, and the one with a single region; in the third, it
# has nothing else.
@pytest.mark.parametrize(
    ("parts", "views"),
    [([[0, 1, 2, 3], [4, 5, 6, 7]], 2), ([[2, 4, 0, 6], [1, 3, 5, 7]], 1), ([[2], [0]], 1)],
    ids=["halves", "uneven", "nothing"],
)
def test_two_processes_equal_the_joined_batch(tmp_path, parts, views):
    in_processes(worker, tmp_path, parts, views)
    shares = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    joined = gradients([study for part in parts for study in part], views)
    for k, (loss, features, parameters, buffers) in enumerate(joined):
        mine = [share[k] for share in shares]
        assert sum(part[0] for part in mine) / WORLD == pytest.approx(loss, rel=1e-5), KINDS[k]
        largest = max(p.norm() for p in parameters)
        # What DistributedDataParallel's mean over processes makes of the gradients.
        for which, expected in ((1, features), (2, parameters)):
            for j, value in enumerate(expected):
                got = sum(part[which][j] for part in mine) / WORLD
                assert relative_error(got, value) < 1e-4 or (got - value).norm() < 1e-5 * largest, KINDS[k]
        for j, value in enumerate(buffers):
            for part in mine:
                assert relative_error(part[3][j], value) < 1e-5, KINDS[k]
