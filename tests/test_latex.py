"""LaTeX tables: text is escaped, every line has its columns, and pdflatex compiles them where it is installed."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.boards.comparisons import Comparison, Standing
from bench.boards.declared import PRIMARY, BoardPlan
from bench.boards.rows import Board, Row
from bench.evaluation.bootstrap import Interval, Summary
from bench.pages.latex import escape, table, tables
from bench.results.result import Result

HARD = "A_b & 50 % of #1 {x}~^\\ $5 <a>|−–…Δ"
"""A label with every character that LaTeX reads as a command."""


def row(method: str, value: float, labels: dict[str, str], backbone: str = "net1d_mini") -> Row:
    numbers = {"macro": {"frequent": {"num_labels": 5}, "all": {"num_labels": 5}}}
    cell = {"method": method, "draw": 0, "seed": 0}
    document: dict[str, Any] = {"cell": cell, "metrics": {"fold_10": numbers}, "dataset": {}}
    interval = Interval(value, value - 0.02, value + 0.01)
    of_row = {"frequent": {"auroc": interval, "average_precision": Interval(0.5, 0.4, 0.6)}}
    return Row(backbone, "own:389512e4", method, (Result(Path(), document),), of_row, labels=labels)


@pytest.fixture
def board() -> Board:
    labels = {"own:389512e4": HARD}
    rows = row("lpft-sd(lr=0.1, note='a_b')", 0.91, labels), row("ft", 0.9, labels), row("lp", 0.8, labels, "other")
    difference = Summary(Interval(0.01, -0.002, 0.022), 0.01, 0.01, 1, 0.0, 1.0)
    pair = Comparison(rows[0].name, rows[1].name, 1, {"auroc": difference}, 0.0004, 0.0004, False, p_adjusted=0.0004)
    letters = {rows[0].name: "a", rows[1].name: "ab", rows[2].name: ""}
    standing = Standing({one.name: (1, 2) for one in rows}, letters, (pair,), {rows[0].name: pair})
    return Board("ptb-xl_1", False, "mine_too", "f", 0.1, "", rows, (), None, BoardPlan("ft", labels=labels), standing)


def test_a_p_has_its_role_and_many_groups_are_ranks(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exploratory p supports no claim, so it does not stand bare."""
    monkeypatch.setattr("bench.pages.groups.MOST_LETTERS", 1)
    standing = board.standing
    assert standing is not None
    pair = standing.pairs[0]
    three = replace(pair, differences={"auroc": replace(pair.differences["auroc"], num_runs=3)}, role=PRIMARY)
    text = table(replace(board, standing=replace(standing, baseline={pair.first: three})))

    assert r"$<$ 0.001 (primary)" in text
    assert "differs from &" in text and "share a letter" not in text
    assert "Differs from: the ranks of the rows from which a row differs significantly." in text


def test_text_is_escaped() -> None:
    assert escape("5 % of a_b & #1 {x}") == r"5 \% of a\_b \& \#1 \{x\}"
    assert escape("−0.1\n to 2…") == r"$-$0.1 to 2\ldots{}"
    assert escape("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"


def test_a_table_has_intervals_letters_differences_and_notes(board: Board) -> None:
    text = table(board)
    lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]

    assert lines[0][:5] == ["rank", "backbone", "method", "macro AUROC", "group"]
    assert lines[0][5:] == [r"$\Delta$ baseline", "p, Holm", "macro AP", "runs"]
    assert lines[1][:5] == ["1", r"net1d\_mini", r"lpft-sd(\ldots{})", "0.9100 (0.890--0.920)", "a"]
    assert lines[1][5:] == ["+0.0100 ($-$0.002 to +0.022)", "$<$ 0.001*", "0.5000", "1*"]
    assert lines[2][4:7] == ["ab", "baseline", ""]
    assert lines[3][4:7] == ["--", "--", ""]
    assert "Rows that share a letter do not differ" in text and "p, Holm: corrected within the pair's role" in text
    assert "own:389512e4" in text.partition(r"\parbox")[2], "the hash stays in a note"
    assert "note=" in text.replace(r"\allowbreak{}", ""), "arguments that the table leaves out stand in a note"
    assert r"\label{tab:mine-too-0.1}" in text


def test_a_table_is_whole(board: Board) -> None:
    """What pdflatex would refuse: open braces and environments, bare special characters, lines of too many cells."""
    text = tables([board])
    bare = re.sub(r"\\[\\%&#$_{}]", "", text)

    depth = 0
    for sign in re.findall(r"[{}]", re.sub(r"(?m)%$|^%.*", "", bare)):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    assert not re.findall(r"[#_~^]", re.sub(r"(?m)^%.*", "", bare))
    assert bare.count("$") % 2 == 0
    assert [line for line in bare.splitlines() if "%" in line and not line.endswith("{%") and line[0] != "%"] == []
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    cells = [line for line in re.sub(r"\\&", "", text).splitlines() if line.endswith(r" \\")]
    assert len(cells) == 4
    assert {line.count("&") + 1 for line in cells} == {len(columns)}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_compiles_a_table(board: Board, tmp_path: Path) -> None:
    (tmp_path / "board.tex").write_text(tables([board]), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
        "\\begin{document}\n\\input{board}\nTable~\\ref{tab:mine-too-0.1}\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
