"""The codes of PIQ: whose they are, which is the nearest, and where gradients go."""

from __future__ import annotations

import pytest
import torch

from auriscope.interpretation.quantiser import PartitionedCodebook


def codebook(num_codes: int = 14, num_shared: int = 2, num_classes: int = 4) -> PartitionedCodebook:
    torch.manual_seed(0)
    made = PartitionedCodebook(num_codes, 3, num_classes, num_shared)
    made.codes.data.normal_()
    return made


def test_every_class_has_codes_of_its_own_and_all_have_the_shared_ones() -> None:
    for num_codes, num_shared, num_classes in ((14, 2, 4), (1024, 0, 50), (50, 0, 50), (61, 7, 10)):
        open_to = codebook(num_codes, num_shared, num_classes).open_to(torch.arange(num_classes))
        own = open_to[:, : num_codes - num_shared]
        assert (own.sum(0) == 1).all()
        assert open_to[:, num_codes - num_shared :].all()
        # SpeechBrain spreads them by rounding, so that the first and the last may have half as many.
        share = (num_codes - num_shared) / num_classes
        assert own.sum(1).min() >= max(1, share / 2 - 1)
        assert own.sum(1).max() <= share + 1


def test_a_vector_becomes_the_nearest_code_that_its_class_may_use() -> None:
    made = codebook()
    maps, label = torch.randn(5, 3, 4, 2), torch.tensor([3, 0, 1, 2, 3])
    found, codes = made(maps, label), made.codes.detach()
    assert found.index.shape == (5, 4, 2)
    for item in range(5):
        allowed = [code for code in range(14) if code >= 12 or made.owner[code] == label[item]]
        for row in range(4):
            for column in range(2):
                vector = maps[item, :, row, column]
                distances = (codes[allowed] - vector).square().sum(1)
                nearest = allowed[int(distances.argmin())]
                assert int(found.index[item, row, column]) == nearest
                assert torch.equal(found.codes[item, :, row, column], codes[nearest])


def test_shared_codes_are_open_in_training_as_they_are_afterwards() -> None:
    made = codebook()
    maps = made.codes.detach()[13].reshape(1, 3, 1, 1).expand(4, 3, 2, 2)
    for training in (True, False):
        made.train(training)
        assert (made(maps, torch.arange(4)).index == 13).all()


def test_gradients_pass_to_the_maps_as_if_nothing_were_done_and_to_codes_from_the_codes() -> None:
    made = codebook()
    maps = torch.randn(2, 3, 2, 2, requires_grad=True)
    weights = torch.randn(2, 3, 2, 2)
    found = made(maps, torch.tensor([0, 1]))
    torch.testing.assert_close(found.passed, found.codes)
    (found.passed * weights).sum().backward()
    assert torch.equal(maps.grad, weights)
    assert made.codes.grad is None
    found = made(maps.detach(), torch.tensor([0, 1]))
    found.codes.sum().backward()
    used = found.index.unique()
    assert made.codes.grad is not None
    assert made.codes.grad[used].ne(0).all()
    assert not made.codes.grad[[code for code in range(14) if code not in used]].any()


def test_codes_begin_as_vectors_of_their_class() -> None:
    made = codebook()
    before = made.codes.detach().clone()
    vectors, label = torch.randn(60, 3), torch.tensor([0, 1, 3]).repeat_interleave(20)
    made.begin(vectors, label)
    rows = [tuple(vector) for vector in vectors.tolist()]
    for code, owner in zip(made.codes.tolist(), made.owner.tolist(), strict=True):
        own = [row for row, kind in zip(rows, label.tolist(), strict=True) if owner in (kind, -1)]
        assert owner == 2 or tuple(code) in own
    # Of the class without examples nothing is known yet.
    assert torch.equal(made.codes[made.owner == 2], before[made.owner == 2])


@pytest.mark.parametrize(("num_codes", "num_shared", "num_classes"), [(3, 0, 4), (6, 3, 4)])
def test_no_class_goes_without_a_code(num_codes: int, num_shared: int, num_classes: int) -> None:
    with pytest.raises(ValueError, match="none"):
        PartitionedCodebook(num_codes, 2, num_classes, num_shared)
