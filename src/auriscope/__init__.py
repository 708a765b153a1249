"""Speech and audio as they are recorded in real life: separate, judge, and tell how good a result is.

Every public verb is imported on first use, so that ``import auriscope`` does not import torch.

>>> import auriscope
>>> "listen" in dir(auriscope)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "align": "auriscope.verbs.align",
    "classify": "auriscope.verbs.classify",
    "compare": "auriscope.verbs.compare",
    "diarize": "auriscope.verbs.diarize",
    "embed": "auriscope.verbs.embed",
    "enhance": "auriscope.verbs.enhance",
    "explain": "auriscope.verbs.explain",
    "export": "auriscope.verbs.export",
    "index": "auriscope.verbs.index",
    "judge": "auriscope.verbs.judge",
    "listen": "auriscope.verbs.listen",
    "load": "auriscope.pretrained",
    "match": "auriscope.verbs.match",
    "say": "auriscope.verbs.say",
    "separate": "auriscope.verbs.separate",
    "transcribe": "auriscope.verbs.transcribe",
    "verify": "auriscope.verbs.verify",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'auriscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
