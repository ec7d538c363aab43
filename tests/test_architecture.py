"""The map of the house shows every room."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_is_on_the_map() -> None:
    """Each table row of docs/architecture.md names modules of its floor, or of one folder of it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    for floor in ("curator", "backends", "learners", "datasets"):
        rows = text.split(f"| in `{floor}/` |")[1].split("\n\n")[0]
        named = set(re.findall(r"`(\w+)\.py`", rows))
        modules = {path.stem for path in (ROOT / floor).glob("*.py")}
        modules |= {path.stem for path in (ROOT / floor).glob("*/*.py") if not path.parent.is_symlink()}
        assert named == modules - {"__init__"}, (named ^ modules, floor)
