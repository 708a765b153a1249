"""Classification: what a recording or an image holds."""

from __future__ import annotations

from auriscope.classification.classifier import (
    Classifier,
    ClassifierConfig,
    ImageClassifier,
    ImageClassifierConfig,
    SoundClassifier,
    SoundClassifierConfig,
    SoundMaps,
)
from auriscope.classification.cnn import CNN, CNNConfig
from auriscope.classification.cnn14 import CNN14Classifier, CNN14ClassifierConfig
from auriscope.classification.conv2d import Conv2d, Conv2dConfig
from auriscope.classification.heads import HeadConfig
from auriscope.classification.imagecnn import ImageCNN, ImageCNNConfig
from auriscope.classification.xvector import XVectorClassifier, XVectorClassifierConfig

__all__ = [
    "CNN",
    "CNN14Classifier",
    "CNN14ClassifierConfig",
    "CNNConfig",
    "Classifier",
    "ClassifierConfig",
    "Conv2d",
    "Conv2dConfig",
    "HeadConfig",
    "ImageCNN",
    "ImageCNNConfig",
    "ImageClassifier",
    "ImageClassifierConfig",
    "SoundClassifier",
    "SoundClassifierConfig",
    "SoundMaps",
    "XVectorClassifier",
    "XVectorClassifierConfig",
]
