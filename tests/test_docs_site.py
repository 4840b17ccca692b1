"""The documentation builds as a site without a warning, and reads without a network.

The pages of docs/ are built here; ``make docs`` adds those of the docstrings, which takes minutes.
"""

import ast
import io
import re
import shutil

import pytest

from tests.tiny import ROOT

pytest.importorskip('furo')
pytest.importorskip('myst_parser')
build = pytest.importorskip('sphinx.cmd.build')
DOCS = ROOT / 'docs'
FORMULA = r"""# Formula

```{eval-rst}
.. math::

    L = \frac{\tau^2}{N_{pos}} \sum_c P_T(c) \log P_S(c)
```
"""


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The pages in HTML, and one with a formula as docstrings have them."""
    work = tmp_path_factory.mktemp('site')
    source, out = work / 'docs', work / 'html'
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns('api*', '_build'))
    (work / 'configs').symlink_to(ROOT / 'configs')
    (source / 'formula.md').write_text(FORMULA)
    index = source / 'index.md'
    index.write_text(index.read_text().replace('\napi\n', '\nformula\n'))
    with (source / 'conf.py').open('a') as conf:
        conf.write('\nautosummary_generate = False\n')
    assert build.main(['-q', '-W', '--keep-going', str(source), str(out)]) == 0
    return out


def test_each_page_is_in_the_site(site):
    for page in DOCS.glob('*.md'):
        assert page.stem == 'api' or (site / f'{page.stem}.html').is_file()


def test_the_site_reads_without_a_network(site):
    for page in site.glob('*.html'):
        tag = r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="([^"]+)"'
        loaded = re.findall(tag, page.read_text())
        assert [address for address in loaded if '//' in address] == []


def test_formulas_are_drawn_by_the_browser(site):
    page = (site / 'formula.html').read_text()
    assert (
        re.search(r'<math[^>]*display="block"', page) and '<mfrac>' in page and r'\frac' not in page
    )


def test_docstrings_are_markup_that_sphinx_understands():
    """All of the API's pages in seconds: their modules are parsed, not imported."""
    nodes, roles = (
        pytest.importorskip(f'docutils.{name}') for name in ('nodes', 'parsers.rst.roles')
    )
    publish_doctree = pytest.importorskip('docutils.core').publish_doctree
    tex2mathml = pytest.importorskip('docutils.utils.math.latex2mathml').tex2mathml
    napoleon = pytest.importorskip('sphinx.ext.napoleon')
    for role in ('mod', 'class', 'func', 'meth', 'attr', 'data'):
        roles.register_local_role(role, roles.GenericRole(role, nodes.literal))
    style, kinds = (
        napoleon.Config(napoleon_use_ivar=True),
        (ast.Module, ast.ClassDef, ast.FunctionDef),
    )
    settings = dict(report_level=2, halt_level=5)
    told = []
    for path in [*(ROOT / 'mmkd').rglob('*.py'), *(ROOT / 'mmkd_cli').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text:
                messages = io.StringIO()
                source = f'{path.relative_to(ROOT)}: {getattr(node, "name", "")}'
                tree = publish_doctree(
                    str(napoleon.GoogleDocstring(text, style)),
                    source_path=source,
                    settings_overrides={**settings, 'warning_stream': messages},
                )
                told += messages.getvalue().splitlines()
                for formula in tree.findall(lambda n: isinstance(n, nodes.math_block | nodes.math)):
                    tex2mathml(formula.astext())  # as docs/conf.py does; it names what it lacks
    assert not told, told
