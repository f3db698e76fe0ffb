"""The pages that people read first: rows are published ones, links lead somewhere, commands and examples work."""

import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
from typer.main import get_command

from bench.cli import app
from bench.pages.markdown import cells_of
from bench.registry.reference import Reference, split_list
from bench.registry.registry import Kind, normalize, registry
from bench.results.result import find_results, row_name

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    if not name.startswith("leaderboards/ptb-xl")
]
KINDS: dict[str, Kind] = {"--method": "method", "--arch": "backbone", "--task": "task"}
PLACEHOLDERS = {"YOURS", "mine", "NAME", "tiny_cnn", "gradual", "RUN", "hypertrophies"}
"""Names that a reader replaces, or that an example on the same page defines."""


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words of each `bench` command in a page's code blocks; a line that ends in a backslash goes on."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("bench "):
                yield shlex.split(line, comments=True)[1:]


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]


def test_there_are_pages_and_commands_to_look_at() -> None:
    assert ROOT / "README.md" in PAGES
    assert len(PAGES) > 6
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value.name if isinstance(value, Path) else None)
def test_a_printed_command_has_the_options_and_names_that_there_are(page: Path, words: list[str]) -> None:
    command: click.Command = get_command(app)
    context = click.Context(command, info_name="bench")
    while isinstance(command, click.Group):
        name, inner, words = command.resolve_command(context, words)
        assert name
        assert inner is not None
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    words = [word for word in words if not re.fullmatch(r"--plugin|my_\w+\.py", word)]  # a file of the reader's
    command.parse_args(context, list(words))  # raises where an option is unknown or its value is of the wrong type

    registry()
    for option, value in pairwise(words):
        for each in split_list(value) if option in KINDS else ():
            if Reference.parse(each).name not in {*PLACEHOLDERS, "all-tasks", "all-foundation"}:
                normalize(KINDS[option], Reference.parse(each))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert not missing


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_rows_are_compared_by_names_that_stand_for_one_row_each() -> None:
    """A glob such as ecgfounder-ft-* finds ft-sd and trials too, and of each seed a row of its own."""
    named = [[word for word in words if " on " in word] for _, words in COMMANDS if words[0] == "compare"]
    names = [full for full in named if full]

    assert names == [[row_name("ecgfounder, bf16", "pretrained", method) for method in ("lpft-sd", "ft")]]


START, TENTH = "30 epochs on rhythm and form", "10 % of the training records"
"""The first weights of the runs in both tables of methods."""
SECOND_START = f"{START} (2)"
"""Those of the column *second weights*: the file in `starts/`."""


def rows_of(page: Path, *columns: str, section: str = "") -> list[dict[str, str]]:
    """The rows of all tables with these columns on a page, or in one of its sections."""
    rows, head = [], list[str]()
    text = page.read_text(encoding="utf-8")
    text = text.partition(f"## {section}\n")[2].partition("\n## ")[0] if section else text
    for line in text.splitlines():
        cells = cells_of(line) if line.startswith("|") else []
        if cells and head and set(columns) <= set(head) and not line.startswith("|---"):
            rows.append(dict(zip(head, cells, strict=True)))
        head = head if head and cells else cells
    return rows


def on_the_board(start: str = START) -> dict[str, dict[str, str]]:
    """Method -> cells of the published board of superdiag at a tenth."""
    board = rows_of(ROOT / "leaderboards/ptb-xl-1.0.3/superdiag.md", "init", "Δ baseline", section=TENTH)
    return {cells["method"]: cells for cells in board if cells["init"] == start}


def test_the_first_table_has_the_numbers_of_the_board() -> None:
    board, rows = on_the_board(), rows_of(ROOT / "README.md", "macro AUROC")

    shown_methods = {row["method"] for row in rows}
    assert shown_methods == {"ft-sd", "lpft-sd", "lpft", "ft", "lp"}
    assert [row["method"] for row in rows] == [method for method in board if method in shown_methods], "best first"
    for row in rows:
        cells = board[row["method"]]
        shown = [row["macro AUROC"], row["difference to `ft`"], row["p, Holm"]]
        assert shown == [cells["macro AUROC, frequent labels"], cells["Δ baseline"], cells["p, Holm"]]


def test_what_the_readme_says_over_tasks_is_on_the_page() -> None:
    answers = (ROOT / "leaderboards/ptb-xl-1.0.3/answer.md").read_text(encoding="utf-8")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    sentence = re.search(r"With 1 % of the records, on (form, rhythm and superdiag), .*?\.(?= [A-Z])", text)

    assert sentence
    shown = re.findall(r"`(\S+)` (?:scores )?([\d.]+) (higher|lower)(?: than `ft`)? (\([^)]*\))", sentence[0])
    assert len(shown) == 3
    for method, size, direction, interval in shown:
        claim = f".** `{method}` scores {size} {direction} than `ft` {interval}, on {sentence[1]}. Better"
        assert any(
            line.startswith("- **A, with 1 % of the records: ") and claim in line for line in answers.splitlines()
        )


def test_what_the_readme_says_of_steps_is_on_the_page_and_the_board() -> None:
    """ft with as many epochs reaches half of the gain of lpft-sd at 1 % of the records, and nothing of it at 10 %."""
    answers = (ROOT / "leaderboards/ptb-xl-1.0.3/answer.md").read_text(encoding="utf-8")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    shown = re.search(r"over `ft` of as many epochs \(`ft-long`\), `lpft-sd` gains ([\d.]+) (\([^)]*\))", text)
    start = "- **A, with 1 % of the records: yes, by more than the margin.** "
    (whole, longer) = (
        float(size)
        for name in ("lpft-sd", "ft-long")
        for size in re.findall(re.escape(f"{start}`{name}` scores ") + r"([\d.]+) higher than `ft` ", answers)
    )

    assert shown and f"{start}`lpft-sd` scores {shown[1]} higher than `ft-long` {shown[2]}, on form, rhythm" in answers
    assert "more steps make up half of the gap" in text and 0.45 < longer / whole < 0.55
    assert "With a tenth, `ft-long` scores as `ft`." in text
    assert abs(float(on_the_board()["ft-long"]["Δ baseline"].split()[0].replace("−", "-"))) < 0.001


def test_the_readme_says_how_far_one_gets_without_first_weights() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (row,) = (row for name, row in on_the_board("random").items() if name == "ft")

    assert (
        f"From random weights `ft` reaches {row['macro AUROC, frequent labels'][:6]} (one subset, three seeds)" in text
    )
    assert row["runs"].startswith("1 × 3")


def test_the_readme_has_the_other_sizes_of_its_first_finding() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    shown = re.search(
        r"three other sets of weights, on one or two of these subsets, `lpft-sd` scores ([\d.]+) higher than `ft` "
        r"\(p = ([\d.]+)\), ([\d.]+) higher with tuned settings \(p = ([\d.]+)\), and ([\d.]+) higher in two runs",
        text,
    )

    board = rows_of(ROOT / "leaderboards/ptb-xl-1.0.3/superdiag.md", "init", "Δ baseline", section=TENTH)
    others = [row for row in board if row["method"].startswith("lpft-sd") and row["init"] not in (START, "random")]
    assert shown and [row["Δ baseline"][:7] for row in others] == [f"+{size}" for size in shown.groups()[::2]]
    assert list(shown.groups()[1::2]) == [row["p, Holm"].split()[0] for row in others[:2]]


def test_the_table_of_methods_has_all_of_them_and_the_numbers_of_the_board() -> None:
    board = on_the_board()
    minutes = defaultdict[str, list[float]](list)
    for result in find_results(ROOT / "leaderboards/ptb-xl-1.0.3/results/superdiag"):
        method, shown = result.cell["method"], board.get(result.cell["method"])
        if shown and result.document["init"]["name"] == "own:02d4f296" and result.cell["fraction"] == 0.1:
            minutes[method].append(sum(phase["seconds"] for phase in result.document["training"]) / 60)
    rows = {row["method"].strip("`"): row for row in rows_of(ROOT / "methods/README.md", "minus `ft`")}

    assert set(rows) == {plugin.name for plugin in registry().of_kind("method") if plugin.module.startswith("methods.")}
    assert {name for name, row in rows.items() if row["minus `ft`"] != "–"} == set(board)
    second = {
        name: row["Δ baseline"].partition(" (")[0] if row["runs"].startswith("1 ×") else row["Δ baseline"]
        for name, row in on_the_board(SECOND_START).items()
    }
    assert {name: row["second weights"] for name, row in rows.items() if row["second weights"] != "–"} == second
    for name, row in rows.items():
        known = [board[name]["Δ baseline"], f"{min(minutes[name]):.1f}"] if name in board else ["–", "–"]
        assert [row["minus `ft`"], row["minutes"]] == known, name


def test_what_the_page_of_methods_says_of_best_epochs_is_so() -> None:
    text = " ".join((ROOT / "methods/README.md").read_text(encoding="utf-8").split())
    ft, lpft, late = re.search(
        r"`ft` was best on fold 9 after (.+?) epochs, `lpft` after (.+?); (.+?) were best in one of the last three",
        text,
    ).groups()  # type: ignore[union-attr]
    best = defaultdict[str, set[int]](set)
    for result in find_results(ROOT / "leaderboards/ptb-xl-1.0.3/results/superdiag"):
        if result.cell["fraction"] == 0.1 and result.document["init"]["name"] in ("own:02d4f296", "own:fc2b0cfc"):
            best[result.cell["method"]].add(result.document["training"][-1]["best_epoch"])

    assert f"{min(best['ft'])} or {max(best['ft'])}" == ft
    assert f"{min(best['lpft'])} or {max(best['lpft'])}" == lpft
    late_ones = {name for name, epochs in best.items() if min(epochs) >= 28}
    assert late_ones == set(re.findall("`(.+?)`", late))
