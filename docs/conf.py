"""Sphinx configuration. Some pages are written by hand; `pages.py` generates the others from the code."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "examples"))

import pages  # noqa: E402  (the file next to this one)

pages.write_all(HERE / "generated")

project = "costax"
version = release = version_of("costax")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    # The file next to this one.
    "docstrings",
]
# Options and quotation marks are shown as one types them: "--save", not an en dash.
smartquotes = False
# Docstrings have code in single backticks.
default_role = "code"
html_theme = "furo"
html_title = "costax"
html_static_path = ["_static"]
html_css_files = ["costax.css"]
html_show_copyright = False
templates_path: list[str] = []
exclude_patterns = ["_build", "generated/contents.md", "gallery", "essay/*.py", "**/GALLERY_HEADER.rst"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
# Signatures show a default as it is written: `traits=NO_TRAITS`.
autodoc_preserve_defaults = True
# Signatures name types of jax and internal types, which have no page in this documentation.
nitpick_ignore_regex = [("py:.*", r".*")]

doctest_global_setup = """
import jax, jax.numpy as jnp, costax
from costax import *
from costax.core.polynomial import symbol
from costax.rules.traits import ELEMENTWISE
"""
trim_doctest_flags = True

sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["generated/gallery"],
    "filename_pattern": r"/plot_",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
}
# The configuration of the gallery holds objects that Sphinx cannot pickle.
suppress_warnings = ["config.cache"]
