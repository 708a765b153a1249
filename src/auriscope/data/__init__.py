"""Data: manifests, the corpora, dynamic mixing, and the fixed evaluation sets."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "AudioStore": "cache",
    "DynamicMixer": "mixing",
    "Entry": "manifest",
    "MixingConfig": "mixing",
    "RoomBankConfig": "rooms",
    "EvaluationItem": "items",
    "EvaluationSet": "items",
    "Utterance": "corpora",
    "corpora_root": "corpora",
    "evaluation_set": "evaluation",
    "evaluation_set_names": "evaluation",
    "impulse_responses": "corpora",
    "noise_clips": "corpora",
    "read_manifest": "manifest",
    "utterances": "corpora",
    "write_manifest": "manifest",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
