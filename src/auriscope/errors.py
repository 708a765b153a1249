"""The errors that a user of auriscope can cause, each one clear line."""

from __future__ import annotations


class AuriscopeError(Exception):
    """Something could not be done; ``str(error)`` is one line that says what and what to do.

    The command line prints that line and exits with 1. Raise it (or a subclass) for every problem that lies in
    the input rather than in the code: a missing file, a damaged checkpoint, an unknown model.
    """


class AudioFileError(AuriscopeError):
    """A file cannot be read or written as audio."""


class CheckpointError(AuriscopeError):
    """A checkpoint is missing, damaged, of an unknown format, or would have to be unpickled."""


class RecipeError(AuriscopeError):
    """A recipe or an override is not valid."""


class CorpusError(AuriscopeError):
    """A corpus is missing or not as its manifest says."""
