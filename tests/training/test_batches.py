from __future__ import annotations

import subprocess
import sys
from itertools import islice

import pytest
import torch

from auriscope.training.batches import BatchSource, IndexedBatches, as_source


def values(source, start, stride, count):
    return [int(batch["x"]) for batch in islice(source.iterate(start, stride), count)]


def square(index):
    return {"x": torch.tensor(index * index)}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_by_index_whatever_prepares_them(num_workers):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    source = IndexedBatches(square, num_workers)
    assert values(source, 5, 3, 6) == [25, 64, 121, 196, 289, 400]
    assert torch.equal(torch.get_rng_state(), state)  # preparing batches draws nothing from the run's generator


def test_sources_are_made_of_what_has_batches(tiny):
    assert isinstance(as_source(tiny.TinyBatches()), IndexedBatches)
    listed = as_source([square(0), square(1), square(2)])
    assert isinstance(listed, BatchSource)
    assert values(listed, 1, 2, 4) == [1, 0, 4, 1]
    source = IndexedBatches(square)
    assert as_source(source) is source
    for nothing in ([], 3):
        with pytest.raises(TypeError, match="no batches"):
            as_source(nothing)


def test_the_package_and_recipes_import_no_torch():
    code = (
        "import sys, auriscope.training, auriscope.training.recipe as r; r.read_recipe; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
