"""PIQ: its mask, what it is trained to, and that it finds the class that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.classification import CNN, ImageCNN
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.interpretation import PIQ, Seen, TrainedInterpreter
from auriscope.interpretation.interpreter import facts
from auriscope.interpretation.piq import loud_part
from auriscope.interpretation.task import see
from auriscope.metrics.interpretation import faithfulness, input_fidelity

from .conftest import draw_pictures

NET: dict[str, Any] = {"num_codes": 48, "halve": False, "kernel_sizes": (4, 3), "resize": True, "binary": True}


def sounds_of(**config: Any) -> tuple[CNN, PIQ]:
    torch.manual_seed(0)
    classifier = CNN.from_config({**CNN.Tiny, "labels": ("a", "b", "c")}).eval()
    found = facts(classifier, PIQ.Config)
    model = PIQ.from_config({**PIQ.Tiny, "resize": True, "halve": False, **found, **config}).eval()
    return classifier, model


def test_masks_show_what_decides(bars_classifier: ImageCNN, taught: Callable[..., TrainedInterpreter]) -> None:
    model = taught(PIQ, **NET)
    test = draw_pictures(150, 20_000)
    found = model.interpret(bars_classifier, test.x)
    assert set(found.mask.unique().tolist()) <= {0.0, 1.0}
    with torch.no_grad():
        inside = found.mask * test.x
        logits, kept, rest = bars_classifier.classify_maps(torch.cat((test.x, inside, test.x - inside))).chunk(3)
    assert input_fidelity(kept, logits).mean() > 0.9
    assert faithfulness(logits.softmax(1), rest.softmax(1), found.label).mean() > 0.3


def test_the_class_that_is_asked_for_changes_the_codes(bars_classifier: ImageCNN) -> None:
    torch.manual_seed(0)
    model = PIQ.from_config({**facts(bars_classifier, PIQ.Config), **NET, "binary": False}).eval()
    test = draw_pictures(4, 3)
    first, second = (model.interpret(bars_classifier, test.x, torch.full((4,), label)) for label in (0, 1))
    assert first.label.tolist() == [0] * 4
    assert not torch.allclose(first.mask, second.mask)
    own = model.codebook(model.adapted(bars_classifier.hidden(test.x)), torch.full((4,), 1)).index
    assert (model.codebook.owner[own] == 1).all()


def test_of_sounds_the_mask_is_over_the_logarithm() -> None:
    classifier, model = sounds_of()
    x = classifier.spectrogram(0.1 * torch.randn(2, 4000)).abs()[:, None]
    x[0, :, :3] = 0.0
    label = torch.tensor([0, 2])
    with torch.no_grad():
        mask = model(x, classifier.hidden(x), label)
        inner = model.logits(x, classifier.hidden(x), label)[0].sigmoid()
    assert mask.shape == x.shape
    torch.testing.assert_close(mask * x, (inner * x.log1p()).expm1(), rtol=1e-3, atol=1e-6)
    # Of silence, the mask of what is hardly there.
    torch.testing.assert_close(mask[0, :, :3], inner[0, :, :3])


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("time", [1200, 3777])
def test_masks_are_of_the_size_of_the_sound(resize: bool, time: int) -> None:
    classifier, model = sounds_of(**({} if resize else {"resize": False, "mel_hz": None}))
    x = classifier.spectrogram(0.1 * torch.randn(1, time)).abs()[:, None]
    with torch.no_grad():
        mask = model(x, classifier.hidden(x), torch.tensor([1]))
    assert mask.shape == x.shape
    assert bool(((mask >= 0) & (mask <= 1)).all())


def test_the_mask_is_to_be_where_the_input_is_loud() -> None:
    x = torch.tensor([0.0, 0.2, 0.36, 1.0]).reshape(1, 1, 2, 2).repeat(2, 1, 1, 1)
    x[1] *= 50.0
    assert loud_part(x, 0.35).flatten(1).tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2
    assert not loud_part(torch.zeros(1, 1, 2, 2), 0.35).any()
    assert loud_part(torch.tensor([0.1, 1.0]).reshape(1, 2, 1, 1), 0.35).item() == 1.0


@pytest.mark.parametrize("linear", [False, True])
def test_of_a_mixture_the_mask_is_to_leave_the_source_its_share(bars_classifier: ImageCNN, linear: bool) -> None:
    torch.manual_seed(0)
    model = PIQ.from_config({**facts(bars_classifier, PIQ.Config), **NET, "linear": linear})
    test = draw_pictures(2, 3)
    seen = see(bars_classifier, test.x)
    shown: list[Tensor] = []
    weights: list[Tensor | None] = []
    original = torch.nn.functional.binary_cross_entropy_with_logits

    def caught(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        shown.append(target)
        weights.append(weight)
        return original(logits, target, weight)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auriscope.interpretation.piq.F.binary_cross_entropy_with_logits", caught)
        model.losses(seen, 0)
        mixed = Seen(seen.x + 1.0, seen.maps, seen.logits, seen.label, seen.x, bars_classifier)
        model.losses(mixed, 0)
    assert torch.equal(shown[0], loud_part(test.x, 0.35))
    torch.testing.assert_close(shown[1], 0.5 * loud_part(test.x, 0.35))
    if not linear:
        assert weights == [None, None]
        return
    # Points count as they are heard.
    assert weights[0] is not None
    torch.testing.assert_close(weights[0], test.x / test.x.mean((1, 2, 3), keepdim=True))


def test_codes_begin_from_examples(bars_classifier: ImageCNN) -> None:
    torch.manual_seed(0)
    model = PIQ.from_config({**facts(bars_classifier, PIQ.Config), **NET})
    seen = see(bars_classifier, draw_pictures(64, 5).x)
    before = model.losses(seen, 0)
    model.begin([seen])
    after = model.losses(seen, 0)
    assert after["codebook"] < 0.5 * before["codebook"]


def test_another_classifier_is_refused(bars_classifier: ImageCNN) -> None:
    _, model = sounds_of()
    with pytest.raises(AuriscopeError, match="of another classifier: its hidden_channels is"):
        model.interpret(bars_classifier, torch.rand(1, 1, 12, 12))


def test_a_class_that_there_is_not_is_refused(bars_classifier: ImageCNN) -> None:
    model = PIQ.from_config({**facts(bars_classifier, PIQ.Config), **NET}).eval()
    with pytest.raises(AuriscopeError, match="no class number 7: the classifier has 3"):
        model.interpret(bars_classifier, torch.rand(1, 1, 12, 12), torch.tensor([7]))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"stage": 2}, "stage 2 is none of the 2"),
        ({"num_codes": 4, "num_shared": 2}, "at least num_classes"),
        ({"kernel_sizes": (4, 2)}, "of 3 or more"),
        ({"decoder_channels": (4,)}, "one fewer"),
        ({"threshold": 1.0}, "threshold"),
        ({"mel_hz": (50.0, 4000.0), "sample_rate": 8000}, "for resize only"),
        ({"num_classes": 1}, "nothing to explain"),
    ],
)
def test_configurations_that_make_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        PIQ.from_config({**PIQ.Tiny, **config})
