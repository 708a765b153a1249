"""The baselines: closed forms on a linear classifier, captum's Grad-CAM, and slow references on real ones."""

from __future__ import annotations

import sys

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from auriscope.classification import Classifier
from auriscope.errors import AuriscopeError
from auriscope.interpretation.baselines import (
    Baseline,
    BaselineConfig,
    GradCAM,
    Gradients,
    IntegratedGradients,
    Occlusion,
)
from auriscope.interpretation.interpreter import Interpreter
from auriscope.interpretation.methods import METHODS, interpreter_of
from auriscope.pretrained import model_class

EVERY = [Gradients, IntegratedGradients, Occlusion, GradCAM]
LABEL = torch.tensor([0, 2, 1])


class Linear(nn.Module):
    """Pictures (batch, 2, 6, 5) to three classes, each a weighted sum."""

    labels = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))

    def classify_maps(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", x, self.weight)


def tiny(name: str) -> Classifier:
    torch.manual_seed(0)
    kind = model_class(name)
    model = kind.from_config(kind.Tiny).eval()
    assert isinstance(model, Classifier)
    return model


def inputs(classifier: Classifier) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if hasattr(classifier, "spectrogram"):
        waveform = 0.1 * torch.randn(3, 3200, generator=generator)
        magnitude: Tensor = classifier.spectrogram(waveform).abs()
        return magnitude[:, None]
    return torch.rand(3, 1, 12, 12, generator=generator)


def test_of_a_linear_classifier_the_gradient_is_its_weight_and_the_integral_weight_times_input() -> None:
    classifier, x = Linear(), torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(2))
    weight = classifier.weight[LABEL]
    found = Gradients().saliency(classifier, x, LABEL)
    torch.testing.assert_close(found, weight.abs().sum(1, keepdim=True))
    found = IntegratedGradients().saliency(classifier, x, LABEL)
    torch.testing.assert_close(found, (weight * x).sum(1, keepdim=True))
    # What speaks against the class is not in the mask; what speaks for it most is 1.
    mask = IntegratedGradients().interpret(classifier, x, LABEL).mask
    assert torch.equal(mask == 0, found <= 0)
    assert mask.amax((1, 2, 3)).tolist() == [1.0] * 3


def test_the_integral_sums_to_the_rise_of_the_logit() -> None:
    classifier = tiny("classification/image-cnn")
    x = inputs(classifier)
    found = IntegratedGradients(BaselineConfig(num_steps=400)).saliency(classifier, x, LABEL)
    with torch.no_grad():
        rise = (classifier(x) - classifier(torch.zeros_like(x))).gather(1, LABEL[:, None])[:, 0]
    torch.testing.assert_close(found.sum((1, 2, 3)), rise, rtol=0.02, atol=2e-3)
    assert rise.abs().max() > 0.05


def test_gradients_of_a_sound_are_by_the_logarithm_of_its_magnitude() -> None:
    classifier = tiny("classification/cnn")
    x = inputs(classifier)
    found = Gradients().saliency(classifier, x, LABEL)
    by_magnitude = x.clone().requires_grad_()
    classifier.classify_maps(by_magnitude).gather(1, LABEL[:, None]).sum().backward()
    assert by_magnitude.grad is not None
    torch.testing.assert_close(found, (by_magnitude.grad * x).abs(), rtol=1e-3, atol=1e-7)
    # The level of the recording plays no part, as it does not for the classifier.
    torch.testing.assert_close(Gradients().saliency(classifier, 0.1 * x, LABEL), found, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("max_batch", [1, 32])
def test_occlusion_is_the_mean_loss_over_the_windows_of_a_point(max_batch: int) -> None:
    classifier = tiny("classification/image-cnn")
    x = inputs(classifier)
    occlusion = Occlusion(BaselineConfig(window_share=0.3, max_batch=max_batch))
    found = occlusion.saliency(classifier, x, LABEL)
    lost, count = torch.zeros(3, 12, 12), torch.zeros(12, 12)
    with torch.no_grad():
        before = classifier(x).softmax(1).gather(1, LABEL[:, None])[:, 0]
        for top in (0, 2, 4, 6, 8):
            for left in (0, 2, 4, 6, 8):
                occluded = x.clone()
                occluded[..., top : top + 4, left : left + 4] = 0.0
                after = classifier(occluded).softmax(1).gather(1, LABEL[:, None])[:, 0]
                lost[:, top : top + 4, left : left + 4] += (before - after)[:, None, None]
                count[top : top + 4, left : left + 4] += 1
    torch.testing.assert_close(found[:, 0], lost / count, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["classification/image-cnn", "classification/cnn"])
def test_grad_cam_is_captums_on_the_last_stage(name: str) -> None:
    classifier = tiny(name)
    x = inputs(classifier)
    found = GradCAM().saliency(classifier, x, LABEL)
    peer = LayerGradCam(classifier.classify_maps, classifier.trunk.stages[-1])
    theirs = peer.attribute(x, target=LABEL, relu_attributions=True).detach()
    theirs = nn.functional.interpolate(theirs, x.shape[2:], mode="bilinear")
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-8)
    assert found.max() > 0


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", ["classification/image-cnn", "classification/cnn"])
def test_masks_of_every_baseline(kind: type[Baseline], name: str) -> None:
    classifier = tiny(name)
    frozen = tiny(name).requires_grad_(False)
    x = inputs(classifier)
    with torch.no_grad():
        found = kind().interpret(classifier, x)
        decided = classifier.classify_maps(x).argmax(1)
    assert torch.equal(found.label, decided)
    assert found.mask.shape == (len(x), 1, *x.shape[2:])
    assert not found.mask.requires_grad
    assert found.mask.min() >= 0
    assert found.mask.amax((1, 2, 3)).max() == 1
    assert all(parameter.grad is None for parameter in classifier.parameters())
    torch.testing.assert_close(kind().interpret(frozen, x).mask, found.mask)
    # Each as if it were alone.
    torch.testing.assert_close(kind().interpret(classifier, x[1:2]).mask, found.mask[1:2], rtol=1e-3, atol=1e-4)
    # Another class, another mask; silence has none of NaN.
    other = kind().interpret(classifier, x, (decided + 1) % len(classifier.labels))
    assert (other.mask - found.mask).abs().max() > 1e-3
    silent = kind().interpret(classifier, torch.zeros_like(x)).mask
    assert silent.isfinite().all()


@pytest.mark.parametrize("kind", EVERY)
def test_what_cannot_be_explained_is_said_in_one_line(kind: type[Baseline]) -> None:
    classifier = tiny("classification/image-cnn")
    with pytest.raises(AuriscopeError, match="no class number 99"):
        kind().interpret(classifier, inputs(classifier), torch.tensor([0, 99, 1]))


def test_grad_cam_needs_hidden_maps_and_the_others_do_not() -> None:
    classifier = tiny("classification/xvector")
    x = inputs(classifier)
    with pytest.raises(AuriscopeError, match="grad-cam needs the hidden maps"):
        GradCAM().interpret(classifier, x)
    for kind in (Gradients, IntegratedGradients, Occlusion):
        assert kind().interpret(classifier, x).mask.shape == x.shape


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = tiny("classification/image-cnn")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(AuriscopeError, match="pip install"):
        Occlusion().interpret(classifier, inputs(classifier))
    assert GradCAM().interpret(classifier, inputs(classifier)).mask.max() == 1


def test_the_baselines_and_lime_are_methods_that_need_no_model() -> None:
    names = {"lime", "gradients", "integrated-gradients", "occlusion", "grad-cam"}
    assert names <= METHODS.keys()
    for name in names:
        found = interpreter_of(name)
        assert isinstance(found, Interpreter)
        assert found.method == name
        with pytest.raises(AuriscopeError, match="not trained"):
            interpreter_of(name, "some/model")


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"window_share": 0.0}, {"window_share": 1.5}, {"max_batch": 0}])
def test_configurations_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BaselineConfig(**wrong)
