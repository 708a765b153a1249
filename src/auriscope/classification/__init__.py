"""Classification: what a recording or an image holds."""

from __future__ import annotations

from auriscope.classification.classifier import (
    Classifier,
    ClassifierConfig,
    ImageClassifier,
    ImageClassifierConfig,
    SoundClassifier,
    SoundClassifierConfig,
)

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "ImageClassifier",
    "ImageClassifierConfig",
    "SoundClassifier",
    "SoundClassifierConfig",
]
