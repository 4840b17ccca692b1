"""Sphinx builds the pages of this folder, and the API pages from the docstrings: ``make docs``."""

from datetime import date

import mmkd

project = 'mmkd'
author = 'The mmkd authors'
copyright = f'{date.today().year}, {author}'
release = mmkd.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
html_theme = 'furo'
html_title = f'mmkd {release}'
exclude_patterns = ['_build']
suppress_warnings = ['ref.python']  # two classes of one name in two rooms
templates_path = ['_templates']
autosummary_generate = True
# What a package's __init__ imports is documented where it is defined.
autodoc_default_options = {'members': True, 'show-inheritance': True, 'ignore-module-all': True}
autodoc_typehints = 'description'
napoleon_google_docstring = True
myst_heading_anchors = 3
myst_enable_extensions = ['dollarmath']
