"""Sphinx builds the pages of this folder, and the API pages from the docstrings: ``make docs``."""

from datetime import date
from importlib import metadata
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = 'mmkd'
author = 'The mmkd authors'
copyright = f'{date.today().year}, {author}'
release = metadata.version(project)

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
html_theme = 'furo'
html_title = f'mmkd {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
exclude_patterns = ['_build']
suppress_warnings = ['ref.python']  # two classes of one name in two rooms
templates_path = ['_templates']
autosummary_generate = True
autosummary_mock_imports = ['mmkd.__main__', 'mmkd_cli.__main__']  # to import one runs the command
# What a package's __init__ imports is documented where it is defined.
autodoc_default_options = {'members': True, 'show-inheritance': True, 'ignore-module-all': True}
autodoc_typehints = 'description'
napoleon_google_docstring = True
myst_heading_anchors = 3
html_math_renderer = 'mathml'


def write_mathml(translator: Any, node: nodes.Element) -> None:
    """A formula as MathML, which browsers draw themselves: no script, no network."""
    as_block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=as_block))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Register the renderer."""
    app.add_html_math_renderer('mathml', (write_mathml, None), (write_mathml, None))
