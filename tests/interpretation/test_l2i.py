"""L2I: its dictionary, the relevance of components, and that it finds what decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.classification import CNN, ImageCNN
from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.interpretation import L2I, TrainedInterpreter
from auriscope.interpretation.interpreter import facts
from auriscope.interpretation.task import see
from auriscope.metrics.interpretation import input_fidelity

from .conftest import draw_pictures


def of_images(classifier: ImageCNN, **config: Any) -> L2I:
    torch.manual_seed(0)
    return L2I.from_config({"num_components": 24, "channels": 16, **facts(classifier, L2I.Config), **config}).eval()


def of_sounds(**config: Any) -> tuple[CNN, L2I]:
    torch.manual_seed(0)
    classifier = CNN.from_config({**CNN.Tiny, "labels": ("a", "b", "c")}).eval()
    model = L2I.from_config({"num_components": 4, "channels": 8, **facts(classifier, L2I.Config), **config}).eval()
    return classifier, model


def magnitudes(classifier: CNN, batch: int = 2, time: int = 4000) -> Tensor:
    return classifier.spectrogram(0.1 * torch.randn(batch, time)).abs()[:, None]


def test_a_dictionary_learns_what_images_are_made_of(bars_classifier: ImageCNN) -> None:
    model = of_images(bars_classifier, num_components=3, fit_iterations=300)
    parts = torch.rand(3, 144) * (torch.rand(3, 144) > 0.6)
    x = (torch.rand(60, 3) @ parts).reshape(60, 1, 12, 12)
    model.begin([see(bars_classifier, x[:30]), see(bars_classifier, x[30:])])
    torch.testing.assert_close(model.dictionary.square().sum(0), torch.ones(3))
    # As parts and columns are the same but for order and size, each part is a multiple of a column.
    likeness = torch.nn.functional.normalize(parts, dim=1) @ torch.nn.functional.normalize(model.dictionary, dim=0)
    assert likeness.amax(1).min() > 0.95


def test_silence_teaches_no_dictionary(bars_classifier: ImageCNN) -> None:
    model = of_images(bars_classifier)
    with pytest.raises(AuriscopeError, match=r"0 frames that are not silent.*first_batches"):
        model.begin([see(bars_classifier, torch.zeros(40, 1, 12, 12))])


def test_a_dictionary_that_is_handed_in_must_fit(bars_classifier: ImageCNN) -> None:
    model = of_images(bars_classifier)
    given = torch.rand(144, 24)
    model.hand_in(given)
    torch.testing.assert_close(torch.nn.functional.normalize(given, dim=0), model.dictionary)
    for wrong, says in ((torch.rand(144, 5), "of 144 x 5 values and must be of 144 x 24"), (-given, "negative")):
        with pytest.raises(AuriscopeError, match=says):
            model.hand_in(wrong)


def test_masks_show_what_decides(bars_classifier: ImageCNN, taught: Callable[..., TrainedInterpreter]) -> None:
    model = taught(L2I, steps=150, num_components=24, channels=16)
    assert isinstance(model, L2I)
    test = draw_pictures(150, 20_000)
    found = model.interpret(bars_classifier, test.x)
    with torch.no_grad():
        kept = bars_classifier.classify_maps(found.mask * test.x)
        told = model.decide(model.activations(test.x, bars_classifier.hidden(test.x)))[1]
    assert (told.argmax(1) == found.label).float().mean() > 0.9
    assert input_fidelity(kept, bars_classifier.classify_maps(test.x)).mean() > 0.5


def test_the_shares_of_all_classes_components_are_the_input() -> None:
    classifier, model = of_sounds(threshold=1e-6)
    model.decide.classes.weight.data.fill_(1.0)
    x = magnitudes(classifier)
    with torch.no_grad():
        maps = classifier.hidden(x)
        model.activate.give.bias.data.fill_(0.5)
        mask = model(x, maps, torch.tensor([0, 1]))
        assert mask.shape == x.shape
        torch.testing.assert_close(mask, torch.ones_like(mask))
        # Where nothing speaks for the class, nothing is shown.
        model.decide.classes.weight.data.fill_(-1.0)
        assert not model(x, maps, torch.tensor([0, 1])).any()


def test_relevance_is_what_a_component_adds_to_the_class_beside_the_strongest() -> None:
    _, model = of_sounds()
    model.decide.classes.weight.data.copy_(torch.tensor([[1.0, -4.0, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1, 1, 1]]))
    pooled = torch.tensor([[2.0, 1.0, 1.0, 5.0], [2.0, 1.0, 3.0, 5.0]])
    expected = torch.tensor([[0.5, -1.0, 0.125, 0.0], [0.0, 1 / 3, 1.0, 0.0]])
    torch.testing.assert_close(model.relevance(pooled, torch.tensor([0, 1])), expected)
    assert not model.relevance(torch.zeros(2, 4), torch.tensor([0, 1])).any()


def test_a_mask_is_the_share_of_the_relevant_components_in_the_logarithm() -> None:
    classifier, model = of_sounds()
    x, label = magnitudes(classifier, time=2555), torch.tensor([0, 1])
    with torch.no_grad():
        maps = classifier.hidden(x)
        mask, activations = model(x, maps, label), model.activations(x, maps)
        relevant = model.relevance(model.decide(activations)[0], label) > 0.2
    assert activations.shape == (2, 4, x.shape[2])
    for item in range(2):
        whole = model.dictionary @ activations[item]
        part = sum(
            torch.outer(model.dictionary[:, k], activations[item, k]) for k in range(4) if bool(relevant[item, k])
        )
        share = (part / whole.clamp_min(1e-8)).T if isinstance(part, Tensor) else torch.zeros_like(whole.T)
        expected = (share * x[item, 0].log1p()).expm1()
        torch.testing.assert_close(mask[item, 0] * x[item, 0], expected, rtol=1e-3, atol=1e-5)


def test_losses_are_as_in_the_paper_and_the_decision_counts_more_later() -> None:
    classifier, model = of_sounds(late_from=7)
    x = magnitudes(classifier)
    seen = see(classifier, x)
    early, late = model.losses(seen, 6), model.losses(seen, 7)
    activations = model.activations(x, seen.maps)
    error = (model.dictionary @ activations - x[:, 0].log1p().mT).square().mean()
    error = error / x.log1p().square().mean()
    torch.testing.assert_close(early["reconstruction"], error)
    logits = model.decide(activations)[1]
    entropy = -(seen.logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(early["fidelity"], entropy)
    torch.testing.assert_close(early["loss"], 5.0 * error + 0.4 * activations.mean() + 0.5 * entropy)
    torch.testing.assert_close(late["loss"] - early["loss"], 0.5 * entropy)


def test_sounds_of_any_length_are_explained_each_as_alone() -> None:
    classifier, model = of_sounds()
    x = magnitudes(classifier, batch=3)
    with torch.no_grad():
        together = model.interpret(classifier, x)
        for item in range(3):
            alone = model.interpret(classifier, x[item : item + 1])
            torch.testing.assert_close(together.mask[item], alone.mask[0], rtol=1e-4, atol=1e-5)
        assert model.interpret(classifier, x[:, :, :5]).mask.shape == (3, 1, 5, x.shape[3])


@pytest.mark.parametrize(
    ("config", "says"),
    [({"num_components": 0}, "num_components"), ({"threshold": 0.0}, "threshold"), ({"late_from": -1}, "late_from")],
)
def test_configurations_that_make_no_sense(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        L2I.from_config({**L2I.Tiny, **config})


def test_images_of_several_channels_have_one_mask() -> None:
    model = L2I.from_config({**L2I.Tiny, "in_channels": 3, "num_features": 3 * 36, "threshold": 0.01}).eval()
    x, maps = torch.rand(2, 3, 6, 6), (torch.rand(2, 4, 6, 6), torch.rand(2, 6, 3, 3))
    with torch.no_grad():
        mask = model(x, maps, torch.tensor([0, 1]))
    assert mask.shape == (2, 1, 6, 6)
    assert bool(((mask >= 0) & (mask <= 1.0 + 1e-6)).all())
