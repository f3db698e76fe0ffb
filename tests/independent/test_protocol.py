"""PROTOCOL.md: numbered without a gap, every source cited, its table of selection true of the published results."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "leaderboards"
TEXT = (FOLDER / "PROTOCOL.md").read_text(encoding="utf-8")


def test_sentences_are_numbered_without_a_gap() -> None:
    rules, sources = TEXT.split("## Sources")
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)]
    cited = {int(one) for group in re.findall(r"\[([\d, ]+)\]", rules) for one in group.split(",")}

    assert numbers == list(range(1, len(numbers) + 1))
    assert cited == {int(one) for one in re.findall(r"^(\d+)\. ", sources, re.MULTILINE)}
    assert "## 8. The p of a pair" in TEXT  # pages and the ledger cite this section


def test_the_table_of_selection_is_that_of_the_results() -> None:
    """Once a published phase records both macros, the table can be computed: then compute it."""
    phases = [
        phase
        for path in FOLDER.glob("*/results/*/*/result.json")
        for phase in json.loads(path.read_text(encoding="utf-8"))["training"]
        if phase["selection"] == "best"
    ]
    (line,) = [line for line in TEXT.splitlines() if line.startswith("| published before")]

    assert [cell.strip() for cell in line.split("|")[2:4]] == [
        str(len(phases)),
        str(sum("val_macro_auroc_frequent" in phase for phase in phases)),
    ]
