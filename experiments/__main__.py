"""Lists the commands, each with the first line of its module.

python -m experiments
"""

import ast
from pathlib import Path

FOLDER = Path(__file__).parent
COMMAND = '\nif __name__ == "__main__":\n'


def commands() -> dict[str, str]:
    """Returns what each command is for; no module is imported."""
    texts = {path: path.read_text("utf-8") for path in sorted(FOLDER.rglob("*.py"))}
    return {
        ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts): (
            ast.get_docstring(ast.parse(text)) or ""
        ).partition("\n")[0]
        for path, text in texts.items()
        if COMMAND in text and path.name != "__main__.py"
    }


if __name__ == "__main__":
    width = max(map(len, commands()))
    for name, purpose in commands().items():
        print(f"python -m {name:<{width}}  {purpose}")
