"""The site: `sphinx-build -W -b html docs OUT`, from the pages here and docstrings."""

import sys
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
strip_signature_backslash = True  # else napoleon writes the attribute `maps_` as `maps`
autodoc_typehints = "none"  # shapes stand in the text, as in the signatures' sources
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "__new__, __init__"}
autodoc_preserve_defaults = True
default_role = (
    "py:obj"  # `names` of docstrings are code, and links where they are known
)
highlight_language = "text"
autodoc_inherit_docstrings = False
suppress_warnings = ["myst.xref_missing"]  # links to files beside the site

html_theme = "furo"
html_title = f"aljax {release}"
html_show_copyright = False


ROOMS = ("aljax.layout", "aljax.metrics", "aljax.plot")  # their `__all__` is promised
WHOLE = ("aljax.layout.losses", "aljax.layout.spaces")  # shown with all functions


def formulas(app, what, name, obj, options, lines):
    """Sets formulas as they stand in the source, and a source as one paragraph."""
    source, lines[:], literal, cited = list(lines), [], False, False
    for place, line in enumerate(source):
        cited = line.startswith("Source: ") or (cited and bool(line.strip()))
        line = line.lstrip() if cited else line
        before = [text for text in source[:place] if text.strip()]
        opens = line.startswith("    ") and place and not source[place - 1].strip()
        prose = bool(before) and not before[-1].startswith((" ", ":", ".."))
        if opens and prose:
            lines += ["::", ""]
            literal = True
        elif line.strip() and not line.startswith(" "):
            literal = False
        lines.append(line if literal else line.replace("|", r"\|"))


def unasked(app, what, name, obj, skip, options):
    """Leaves out scikit-learn's routing, fields of tuples, and what is not promised."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    module = getattr(obj, "__module__", None) or ""
    room = module.rpartition(".")[0]
    if (
        what != "module"
        or room not in ROOMS
        or module in WHOLE
        or isinstance(obj, type)
    ):
        return skip
    return skip or name not in sys.modules[room].__all__


def setup(app):
    """Runs after napoleon has read the sections."""
    app.connect("autodoc-skip-member", unasked)
    app.connect("autodoc-process-docstring", formulas, priority=900)
