"""Settings of the documentation site: `sphinx-build -W docs build/docs`.

The site needs no network, neither to be built nor to be read. Its pages are Markdown that is readable on GitHub too,
with two additions made here: the navigation comes from the lists of links in each `index.md`, and a Mermaid block
becomes the picture that `docs/pictures/diagrams.py` drew from it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from batchrun.version import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "batchrun"
project_copyright = "the authors of batchrun"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
autodoc_mock_imports = ["ray"]  # an extra, which the pages do not need
nitpicky = True
default_role = "py:obj"  # `run` in a docstring is a link where there is such a name, and code in any case
# Names of other packages, and batchrun's own that are JSON, a whole report or a row of scorers, have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(?!batchrun\.).*"),
    ("py:.*", r"batchrun\.(scoring|reporting|estimate|batch)\.\w+\.\w*(Facts|Report|Summary)"),
    ("py:.*", r"batchrun\.scoring\.(score_tally\.PairKey|scorers\.base\.Sample)"),
]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"batchrun {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

SECTION = re.compile(r"^#{1,2} (.+)\n((?:(?!## ).*\n?)*)", re.M)
PAGE_LINK = re.compile(r"^- .*?\]\(((?!https?:|\.\.)[^)#]+)\.md\)", re.M)


def add_navigation(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Add a hidden table of contents for each section of an `index.md`: the pages that its list links to."""
    if Path(docname).name == "index":
        source[0] += "".join(
            f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
            for caption, text in SECTION.findall(source[0])
            if (pages := PAGE_LINK.findall(text))
        )


def drop_overloads(_app: Sphinx) -> None:
    """Let functions be shown with one signature, that of the page or their own: overloads are for type checkers."""
    for module in ("batchrun.api.run", "batchrun.api.evaluation"):
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        analyzer.overloads.clear()


def drop_option_help(_app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Leave the options out of the docstring of `Job`: the reference has them with their types, at `JobOptions`."""
    if name.endswith(".Job") and "Options:" in lines:
        del lines[lines.index("Options:") :]


class Mermaid(SphinxDirective):
    """A Mermaid block, shown as the picture that was drawn from it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        digest = hashlib.sha256("\n".join(self.content).encode()).hexdigest()[:12]
        picture = Path(__file__).parent / "pictures" / f"diagram-{digest}.svg"
        if not picture.exists():
            raise self.error(f"no {picture.name}: run `python docs/pictures/diagrams.py`")
        self.env.note_dependency(str(picture))
        return [nodes.image(uri=f"/pictures/{picture.name}", alt=" ".join(self.content), classes=["diagram"])]


def setup(app: Sphinx) -> None:
    """Register what this file adds, and the languages of code blocks that are shown as plain text."""
    app.connect("source-read", add_navigation)
    app.connect("builder-inited", drop_overloads)
    app.connect("autodoc-process-docstring", drop_option_help)
    app.add_directive("mermaid", Mermaid)
    for language in ("crontab", "csv"):
        app.add_lexer(language, TextLexer)
