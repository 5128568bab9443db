"""Two gloo processes with GLoRIA, MGCA or VECL are one process on the joined batch, however words are shared out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.processes import WORLD, in_processes, relative_error
from tests.support.reports import KINDS, SAID, Reports, make

pytestmark = pytest.mark.slow


def gradients(name, order, views):
    """Return loss, gradients of features and of parameters, and running statistics."""
    # VECL draws sentences in training, and each process draws its own: here each study has one.
    reports = Reports(views, [counts[:1] for counts in SAID] if name == "vecl" else SAID)
    for leaf in reports.leaves():
        leaf.requires_grad_()
    objective = make(name)
    loss = torch.stack(list(objective(*reports.inputs(order)).values())).sum()
    loss.backward()
    features = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in reports.leaves()]
    buffers = [b for b in objective.buffers() if b.is_floating_point()]
    return loss.item(), features, [p.grad for p in objective.parameters()], buffers


def worker(number: int, folder: Path, parts: list[list[int]], views: int) -> None:
    torch.save({name: gradients(name, parts[number], views) for name in KINDS}, folder / f"{number}.pt")


# In the second, the first process has the studies without report and without words; in the third, it has nothing else.
@pytest.mark.parametrize(
    ("parts", "views"),
    [([[0, 1, 2, 3], [4, 5, 6, 7]], 2), ([[2, 4, 0, 5], [1, 3, 6, 7]], 1), ([[2], [0]], 1)],
    ids=["halves", "uneven", "nothing"],
)
def test_two_processes_equal_the_joined_batch(tmp_path, parts, views):
    in_processes(worker, tmp_path, parts, views)
    shares = [torch.load(tmp_path / f"{number}.pt") for number in range(WORLD)]
    for name in KINDS:
        loss, features, parameters, buffers = gradients(name, [study for part in parts for study in part], views)
        mine = [share[name] for share in shares]
        assert sum(part[0] for part in mine) / WORLD == pytest.approx(loss, rel=1e-5), name
        largest = max(p.norm() for p in parameters)
        # What DistributedDataParallel's mean over processes makes of the gradients.
        for which, expected in ((1, features), (2, parameters)):
            for j, value in enumerate(expected):
                got = sum(part[which][j] for part in mine) / WORLD
                assert relative_error(got, value) < 1e-4 or (got - value).norm() < 1e-5 * largest, (name, which, j)
        for j, value in enumerate(buffers):
            for part in mine:
                assert relative_error(part[3][j], value) < 1e-5, (name, j)
