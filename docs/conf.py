"""How Sphinx builds the documentation: guides in Markdown, the API from the docstrings; see docs/decisions/0007."""

from __future__ import annotations

from importlib.metadata import version as installed_version

# autodoc imports modules as type checkers do, which FastAPI's models do not survive; once imported, they stay.
import fastapi  # noqa: F401

project = "auriscope"
author = "the auriscope authors"
copyright = "the auriscope authors; Apache-2.0"
release = version = installed_version("auriscope")

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
# Tables that pages include.
exclude_patterns = ["_build", "systems/leaderboard/*.md", "systems/permutation-speed.md"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# A page for each package with all its modules, written at every build: a new module is documented without a list to
# keep.
# What alembic runs can only be imported by alembic.
apidoc_modules = [
    {
        "path": "../src/auriscope",
        "destination": "api",
        "exclude_patterns": ["**/migrations/env.py", "**/migrations/versions/**"],
    }
]
apidoc_module_first = True
apidoc_automodule_options = {"members", "show-inheritance"}
# Re-exported names are documented where they are defined, and values (paths of this machine among them) not at all:
# the defaults of a configuration stand in its signature.
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True, "no-value": True}
# SQLAlchemy documents these for itself.
autodoc_default_options["exclude-members"] = "cache_ok, metadata, registry"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
viewcode_follow_imported_members = False

html_theme = "furo"
html_title = f"auriscope {release}"
html_copy_source = False
