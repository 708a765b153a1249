"""The command line: one thin module per verb; nothing here imports torch before a command needs it."""

from __future__ import annotations

from auriscope.cli.app import app, main

__all__ = ["app", "main"]
