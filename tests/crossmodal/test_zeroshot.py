"""Zero-shot classification: prompts, ensembles, and probabilities that are those of cosines."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from auriscope.crossmodal import CLAP
from auriscope.crossmodal.windows import embed_recording
from auriscope.crossmodal.zeroshot import ENSEMBLE, ZeroShotClassifier, parse_labels, prompts_of
from auriscope.data.captioned import PHRASES
from auriscope.data.labelled_sets import SETS
from auriscope.errors import AuriscopeError


@pytest.fixture(scope="module")
def model() -> CLAP:
    torch.manual_seed(0)
    return CLAP(CLAP.Config(**CLAP.Tiny)).eval()


def test_probabilities_are_those_of_the_cosines_of_whole_recordings(model: CLAP) -> None:
    classifier = ZeroShotClassifier(model, ("rain", "dog", "a slamming door"))
    torch.manual_seed(1)
    waveform, lengths = 0.1 * torch.randn(3, 160_000), torch.tensor([160_000, 4_000, 90_000])
    found = classifier.predict_proba(waveform, lengths)
    with torch.no_grad():
        text = model.embed_text([f"this is a sound of {label}" for label in classifier.labels])
        for row, length in enumerate(lengths):
            alone = embed_recording(model, waveform[row, :length])
            expected = (model.logit_scale * (text @ alone)).softmax(0)
            assert torch.allclose(found[row], expected, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(3))
    # What lies behind the end is not heard, and who else is in the batch changes nothing.
    changed = waveform.clone()
    changed[1, 4_000:] = 1.0
    assert torch.equal(classifier.predict_proba(changed, lengths)[1], found[1])
    assert torch.allclose(classifier.predict_proba(waveform[1:2, :4_000]), found[1:2], atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_prompts(model: CLAP) -> None:
    templates = ("a sound of {}", "{} nearby")
    classifier = ZeroShotClassifier(model, ("thunder", "bell_gong"), templates, PHRASES)
    prompts = (
        ("a sound of thunder", "thunder nearby"),
        ("a sound of a bell", "a bell nearby", "a sound of a gong", "a gong nearby"),
    )
    assert classifier.prompts == prompts
    with torch.no_grad():
        for own, embedding in zip(prompts, classifier.embedding, strict=True):
            mean = torch.stack([model.embed_text([prompt])[0] for prompt in own]).mean(0)
            assert torch.allclose(embedding, F.normalize(mean, dim=0), atol=1e-6)
    assert ZeroShotClassifier(model, ("a", "b"), ("ensemble",)).templates == ENSEMBLE


def test_labels_are_said_as_they_are_unless_there_are_phrases() -> None:
    assert prompts_of("crying_baby", ["{}"]) == ("crying baby",)
    assert prompts_of("weather", ["{}"]) == ("weather",)
    known = {label for named in SETS.values() for label in named.labels}
    assert set(PHRASES) <= known


def test_labels_from_a_line() -> None:
    assert parse_labels(" rain,a crying baby , ") == ("rain", "a crying baby")
    for text, reason in (("rain", "there is only 'rain'"), (" , ", "there is none"), ("a, b, a", "'a' is there twice")):
        with pytest.raises(AuriscopeError, match=reason):
            parse_labels(text)


def test_templates_hold_their_slot_once(model: CLAP) -> None:
    for template in ("a sound", "{} and {}"):
        with pytest.raises(AuriscopeError, match=r"must hold \{\} once"):
            ZeroShotClassifier(model, ("a", "b"), (template,))
    with pytest.raises(AuriscopeError, match="there is none"):
        ZeroShotClassifier(model, ("a", "b"), ())
    with pytest.raises(AuriscopeError, match="one of them is empty"):
        ZeroShotClassifier(model, ("a", " "))
