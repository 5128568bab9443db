"""IMITATE's and ASG's objectives with a learned temperature: the same loss at its first value, and a gradient."""

import pytest
import torch

from medvlp.objectives import GlobalAlignment, RegionAlignment
from tests.objectives.test_hierarchical_alignment import call
from tests.objectives.test_hierarchical_alignment import inputs as hierarchical_inputs
from tests.support import asg, hierarchical


def of_asg(kind):
    def loss(**options):
        objective = asg.make(kind, **options).eval()
        return objective, sum(objective(*asg.Studies().inputs(range(asg.STUDIES))).values())

    return loss


def of_imitate(**options):
    objective = hierarchical.make(**options).eval()
    torch.manual_seed(3)
    return objective, sum(call(objective, *hierarchical_inputs()).values())


@pytest.mark.parametrize(
    "loss", [of_asg(GlobalAlignment), of_asg(RegionAlignment), of_imitate], ids=["ira+erl", "arsa", "imitate"]
)
def test_it_begins_where_the_fixed_one_stays(loss):
    fixed, expected = loss()
    learned, got = loss(learned_temperature=True)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert learned.temperature.log_scale.grad != 0
    # Checkpoints of fixed temperatures are those of before.
    assert learned.state_dict().keys() - fixed.state_dict().keys() == {"temperature.log_scale"}
    assert not any("temperature" in key for key in fixed.state_dict())
