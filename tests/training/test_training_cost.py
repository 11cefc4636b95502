"""What a training takes is told before it begins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dejavlad.training.diagnostics.cost import estimate_cost


def test_memory_and_steps_of_a_small_network(make_model, town, config):
    model = make_model("gem")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cost = estimate_cost(model, town, config)
    assert cost.learnt == sum(parameter.numel() for parameter in model.parameters())
    assert (cost.steps, cost.photos, cost.size) == (8, 10, (40, 56))
    assert cost.hours == pytest.approx(cost.steps * cost.step_seconds / 3600)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    fewer = estimate_cost(model, town, replace(config, photos_at_once=1))
    states = 4 * cost.learnt * 2 + sum(tensor.nbytes for tensor in before.values())
    one = fewer.memory_gb * 1e9 - states
    assert cost.memory_gb * 1e9 - states == pytest.approx(10 * one, rel=1e-6)
    assert 6 * 19 * 27 * 4 < one < 2_000_000  # at least the first map, kept for its gradient
    head = estimate_cost(model, town, replace(config, trainable="head"))
    assert head.learnt == 1 and head.memory_gb < cost.memory_gb
    assert "GB" in str(cost) and "minutes" in str(cost)
