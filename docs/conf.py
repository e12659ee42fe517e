"""The site: `sphinx-build -W -b html docs OUT`, from the pages here and docstrings."""

from importlib import metadata

project = "aljax"
author = "the aljax developers"
release = version = metadata.version("aljax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "notes_style")]
autodoc_typehints = "none"  # shapes stand in the text, as in the signatures' sources
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__new__, __init__"}
autodoc_preserve_defaults = True
highlight_language = "text"
autodoc_inherit_docstrings = False
suppress_warnings = ["myst.xref_missing"]  # links to files beside the site

html_theme = "furo"
html_title = f"aljax {release}"
html_show_copyright = False


def formulas(app, what, name, obj, options, lines):
    """Sets the indented formulas of docstrings as they stand in the source."""
    source, lines[:], literal = list(lines), [], False
    for place, line in enumerate(source):
        before = [text for text in source[:place] if text.strip()]
        opens = line.startswith("    ") and place and not source[place - 1].strip()
        prose = bool(before) and not before[-1].startswith((" ", ":", ".."))
        if opens and prose:
            lines += ["::", ""]
            literal = True
        elif line.strip() and not line.startswith(" "):
            literal = False
        lines.append(line if literal else line.replace("|", r"\|"))


def of_routing(app, what, name, obj, skip, options):
    """Leaves out the methods that scikit-learn makes to route metadata."""
    return skip or (name.startswith("set_") and name.endswith("_request"))


def setup(app):
    """Runs after napoleon has read the sections."""
    app.connect("autodoc-skip-member", of_routing)
    app.connect("autodoc-process-docstring", formulas, priority=900)
