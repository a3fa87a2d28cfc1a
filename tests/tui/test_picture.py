"""The README's picture is what the explorer shows."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "images" / "screens.py"


def test_the_picture_of_the_readme_is_up_to_date():
    """`python docs/images/screens.py` draws it anew."""
    spec = importlib.util.spec_from_file_location("screens", SCRIPT)
    screens = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(screens)
    drawn = screens.draw()
    assert drawn == screens.OUT.read_text(encoding="utf-8")
    assert len(drawn.encode()) < 200_000
