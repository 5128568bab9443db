"""Fixed and learned temperatures, their limits, and what a checkpoint keeps of them."""

import math

import pytest
import torch

from medvlp.errors import UserError
from medvlp.models import Temperature


def test_a_fixed_temperature_divides_and_has_no_state():
    temperature = Temperature(0.07)
    similarity = torch.randn(3, 4)
    torch.testing.assert_close(temperature(similarity), similarity / 0.07)
    assert not temperature.state_dict()
    assert not list(temperature.parameters())
    assert not temperature.logged


def test_a_fixed_bias_is_added():
    torch.testing.assert_close(Temperature(0.1, bias=-10)(torch.tensor(1.0)), torch.tensor(0.0))


def test_a_learned_temperature_and_bias_are_parameters_and_are_logged():
    temperature = Temperature(0.1, learned=True, bias=-10)
    assert set(temperature.state_dict()) == {"log_scale", "bias"}
    assert set(temperature.logged) == {"temperature", "bias"}
    temperature(torch.randn(5)).sum().backward()
    assert all(parameter.grad is not None for parameter in temperature.parameters())
    assert set(Temperature(0.1, learned=True).logged) == {"temperature"}


def test_a_learned_temperature_stays_above_its_limit_and_comes_back():
    temperature = Temperature(0.011, learned=True)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.01)
    for sign, steps in ((-1, 20), (1, 20)):
        for _ in range(steps):
            optimizer.zero_grad()
            (sign * temperature(torch.tensor(1.0))).backward()
            optimizer.step()
        if sign < 0:
            assert float(temperature.value) == pytest.approx(0.01, rel=1e-5)
    assert float(temperature.value) > 0.011


def test_two_uses_in_one_step_have_a_gradient():
    temperature = Temperature(0.01, learned=True)
    with torch.no_grad():
        temperature.log_scale.add_(1)
    (temperature(torch.tensor(1.0)) + temperature(torch.tensor(0.5))).backward()
    assert float(temperature.log_scale.grad) == pytest.approx(1.5 / 0.01, rel=1e-4)
    assert float(temperature.log_scale) == pytest.approx(-math.log(0.01), rel=1e-5)


@pytest.mark.parametrize(("temperature", "least"), [(0.001, 0.01), (0.0, 0.0), (-1, 0.1)])
def test_impossible_temperatures_are_refused(temperature, least):
    with pytest.raises(UserError, match="temperature="):
        Temperature(temperature, least=least)
