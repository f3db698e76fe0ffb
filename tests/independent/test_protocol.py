"""PROTOCOL.md: numbered without a gap, every source cited, its table of selection true of the published results."""

import json
import re
from pathlib import Path

import numpy as np

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
    phases = [
        phase
        for path in FOLDER.glob("*/results/*/*/result.json")
        for phase in json.loads(path.read_text(encoding="utf-8"))["training"]
        if phase["selection"] == "best"
    ]
    before = [phase for phase in phases if "val_macro_auroc_frequent" not in phase]
    since = [phase for phase in phases if "val_macro_auroc_frequent" in phase]
    differ = [phase for phase in since if phase["val_macro_auroc_frequent"] != phase["val_macro_auroc"]]
    others = [phase for phase in differ if np.nanargmax(phase["val_macro_auroc_frequent"]) + 1 != phase["best_epoch"]]
    lines = [line.split("|") for line in TEXT.splitlines() if line.startswith("| published ")]

    assert [cell.strip() for cell in lines[0][2:4]] == [str(len(before)), "0"]
    assert [cell.strip() for cell in lines[1][2:5]] == [str(len(since))] * 2 + [str(len(differ))]
    assert lines[1][5].strip() == str(len(others))
