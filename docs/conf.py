"""How the documentation is built: `make docs`. Its pictures are drawn on the way."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pictures
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "valuelearn"
copyright = "the authors of valuelearn"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "valuelearn"
myst_enable_extensions = ["dollarmath", "deflist"]
html_math_renderer = "mathml"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
exclude_patterns = ["_build"]


def _math(page: HTML5Translator, node: nodes.Element) -> None:
    """Formulas as MathML, which browsers draw by themselves: without a network, too."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    if block:
        formula = f'<div style="overflow: auto hidden; padding: 0.6em 0">{formula}</div>'
    page.body.append(formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Draw what the pages show."""
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
    pictures.draw(Path(__file__).parent / "drawn")
