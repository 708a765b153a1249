from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auriscope.pretrained.model import Model


@pytest.fixture
def check_padding() -> Callable[[Model], None]:
    """A check that examples of a padded batch come out as they do alone, whatever lies in the padding."""

    def check(model: Model) -> None:
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        lengths = torch.tensor([611, 604, 307, 40, 9])
        mixture = torch.randn(len(lengths), 611)
        mixture[3, 40:] = torch.nan
        model.eval()
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                together = model(mixture, lengths)
            for row, length in enumerate(lengths.tolist()):
                with torch.no_grad():
                    alone = model(mixture[row : row + 1, :length])[0]
                assert alone.abs().max() > 1e-3
                torch.testing.assert_close(together[row, :, :length], alone, atol=1e-5, rtol=1e-4)
                assert not together[row, :, length:].any()

    return check


@pytest.fixture
def real_corpora() -> Path:
    if not os.environ.get("AURISCOPE_CORPORA"):
        pytest.skip("AURISCOPE_CORPORA is not set")
    return Path(os.environ["AURISCOPE_CORPORA"])
