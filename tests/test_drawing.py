"""Pictures draw texts in any script: an SVG keeps the characters, and a font that lacks them is no warning."""

import re
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from bench.drawing import styled

NAMES = "Herzinfarkt 心筋梗塞 ߶"


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_characters_that_a_font_lacks_are_drawn_without_a_warning(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{ending}"
    with styled({"svg.fonttype": "none"}):
        figure = Figure()
        figure.text(0.1, 0.5, NAMES)
        figure.savefig(path)

    assert path.stat().st_size > 1000
    if ending == "svg":
        assert NAMES in path.read_text()


def test_other_warnings_are_heard_and_the_style_ends() -> None:
    before = mpl.rcParams["font.size"]

    def draw() -> None:
        with styled({"font.size": 3 * before}):
            assert mpl.rcParams["font.size"] == 3 * before
            warnings.warn("something else", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        draw()
    assert mpl.rcParams["font.size"] == before


def test_every_picture_is_drawn_in_it() -> None:
    bench = Path(__file__).parent.parent / "bench"
    saving = {file for file in bench.rglob("*.py") if re.search(r"\.savefig\(", file.read_text())}

    assert saving and all("with styled(" in file.read_text() for file in saving)
    assert not [file for file in bench.rglob("*.py") if "rc_context" in file.read_text() and file.stem != "drawing"]
