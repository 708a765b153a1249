from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from auriscope.training.evaluation import EvaluationTable, evaluate


def measure(batch):
    return {"level": batch["mixture"].mean(1), "undefined": torch.full((len(batch["mixture"]),), math.nan)}


def test_there_is_a_row_per_example_in_order():
    batches = [{"mixture": torch.full((2, 3), 1.0), "id": ["a", "b"]}, {"mixture": torch.full((1, 3), 4.0)}]
    table = evaluate(measure, batches)
    assert [(row["id"], row["level"]) for row in table.rows] == [("a", 1.0), ("b", 1.0), ("2", 4.0)]
    assert table.metrics() == ["level", "undefined"]
    assert table.means()["level"] == 2.0
    assert math.isnan(table.means()["undefined"])


def test_a_task_is_evaluated_in_evaluation_mode_and_left_in_its_own(tiny):
    task = tiny.TinyTask()
    task.train()
    first, second = evaluate(task, tiny.VALID), evaluate(task, tiny.VALID)
    assert first.rows == second.rows  # dropout is off
    assert task.training
    assert task.model.training
    task.eval()
    evaluate(task, tiny.VALID)
    assert not task.training


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = generator.normal(3.0, 2.0, size=40)
        table = EvaluationTable([{"id": str(i), "x": value} for i, value in enumerate(values)])
        summary = table.summary(num_resamples=300)["x"]
        assert summary.low < summary.mean < summary.high
        covered += summary.low <= 3.0 <= summary.high
    assert 0.88 < covered / 200 < 0.99


def test_few_equal_and_undefined_values_have_their_own_answer():
    table = EvaluationTable(
        [
            {"id": "0", "single": 1.0, "equal": 2.0, "never": math.nan},
            {"id": "1", "single": math.inf, "equal": 2.0, "never": math.nan},
        ]
    )
    summary = table.summary()
    assert (summary["single"].mean, summary["single"].low, summary["single"].num_examples) == (1.0, None, 1)
    assert (summary["equal"].low, summary["equal"].mean, summary["equal"].high) == (2.0, 2.0, 2.0)
    assert (summary["never"].mean, summary["never"].num_examples) == (None, 0)


def test_an_interval_is_reproducible():
    table = EvaluationTable([{"id": str(i), "x": float(i**2)} for i in range(10)])
    assert table.summary() == table.summary()
    assert table.summary(seed=1) != table.summary()
    assert table.values("x") == pytest.approx([i**2 for i in range(10)])
