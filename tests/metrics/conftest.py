from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def separated(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Estimates and references (3, 2, 6000) of coloured noise, with leakage, a filter and noise of several levels."""
    kernel = torch.hann_window(9).reshape(1, 1, -1)
    white = torch.randn(6, 1, 6000, generator=generator)
    references = torch.nn.functional.conv1d(white, kernel, padding=4).reshape(3, 2, 6000)
    leak = torch.tensor([0.01, 0.2, 0.9]).reshape(3, 1, 1)
    estimates = references + leak * references.flip(1)
    estimates = estimates + 0.3 * torch.nn.functional.pad(estimates, (40, 0))[..., :6000]
    return estimates + leak * torch.randn(3, 2, 6000, generator=generator), references
