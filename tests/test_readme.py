"""What the README shows of a board is what stands on its page."""

import re
from pathlib import Path

from bench.results.result import row_name

ROOT = Path(__file__).parent.parent


def rows_of(text: str) -> list[list[str]]:
    """The cells of every numbered table row."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] in STARTS]


STARTS = {f"| {digit}" for digit in range(1, 10)}


def test_the_board_of_the_readme_is_the_published_one() -> None:
    page = (ROOT / "leaderboards/ptb-xl-1.0.3/superdiag.md").read_text()
    (section,) = re.findall(r"## 10 % of the training records\n(.*?)\n## ", page, flags=re.DOTALL)
    published = rows_of(section.split("<details>")[0])
    shown = [row for row in rows_of((ROOT / "README.md").read_text()) if len(row) == 8]

    assert len(shown) == len(published) > 5
    for ours, theirs in zip(shown, published, strict=True):
        rank, group, start, method, recipe, *scores = ours
        assert [rank, group] == theirs[:2]
        assert start == ("random" if theirs[2] == "random" else "pre-trained")
        assert method == theirs[3].partition("(")[0]
        assert recipe == theirs[4]
        assert scores == theirs[5:8]


def test_rows_are_compared_by_names_that_stand_for_one_row_each() -> None:
    """A glob such as ecgfounder-ft-* finds ft-sd and trials too, and of each seed a row of its own."""
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("bench compare")]

    assert [re.findall('"(.*?)"', line) for line in commands] == [
        [row_name("ecgfounder, bf16", "pretrained", method) for method in ("lpft-sd", "ft")]
    ]
