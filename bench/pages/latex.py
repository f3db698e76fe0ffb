"""Write boards as LaTeX tables for a paper: `\\input` a file; it needs the packages booktabs and graphicx."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from bench.boards.rows import Board, Row, interval_of
from bench.evaluation import metrics
from bench.pages.about_data import trained_on
from bench.pages.conditions import SUBSET, few_draws, spell_runs
from bench.pages.groups import GROUP, differences_column
from bench.pages.names import columns, labels_note
from bench.pages.spelling import spell, spell_difference, spell_role

ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "†": r"\dag{}",
    "Δ": r"$\Delta$",
}
"""Character -> how pdflatex writes it without more packages."""
PREAMBLE = "% In the preamble: \\usepackage{booktabs,graphicx}\n"


def escape(text: str) -> str:
    """Return free text as LaTeX that shows the same characters, on a single line."""
    return "".join(ESCAPES.get(character, character) for character in " ".join(text.split()))


def tables(boards: Sequence[Board]) -> str:
    """Return the tables of a page's boards: a `table` environment for each board with rows."""
    return "\n".join([PREAMBLE, *(table(board) for board in boards if board.rows)])


def table(board: Board) -> str:
    """Return the table of a board with intervals, group letters and differences from the baseline, and its notes."""
    names, shared = columns(board)
    compared = board.standing is not None and bool(board.standing.baseline)
    differences, groups = differences_column(board)
    head = ["rank", *names, "macro AUROC", *([differences] if board.standing else [])]
    head += [*(["Δ baseline", "p, Holm"] if compared else []), "macro AP", "runs"]
    of_names = list(zip(*names.values(), strict=True)) or [()] * len(board.rows)
    lines = [_line(head), r"\midrule"]
    lines += [
        _line(_cells(board, place, [*of_names[place]], groups[place], compared)) for place in range(len(board.rows))
    ]
    align = "r" + "l" * len(names) + "r" * (len(head) - len(names) - 1)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_caption(board, compared)}}}",
            rf"\label{{tab:{_key(board)}}}",
            r"\medskip",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # shrinks what is too wide, only
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *(
                ["", r"\medskip", rf"\parbox{{\linewidth}}{{\raggedright {notes}}}"]
                if (notes := _notes(board, shared))
                else []
            ),
            r"\end{table}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"


def _cells(board: Board, place: int, names: Sequence[str], group: str, compared: bool) -> list[str]:
    row, standing = board.rows[place], board.standing
    cells = [str(place + 1), *names, spell(row.summaries["frequent"]["auroc"])]
    cells += [group] if standing else []
    if compared and standing is not None:
        pair = standing.baseline.get(row.name)
        own = "baseline" if row.name in standing.baselines else "–"
        cells += [own, ""] if pair is None else [spell_difference(pair.differences["auroc"]), spell_role(pair)]
    precision = interval_of(row.summaries["frequent"]["average_precision"]).value
    return [*cells, "–" if math.isnan(precision) else f"{precision:.4f}", spell_runs(row)]


def _caption(board: Board, compared: bool) -> str:
    words = [f"{board.task} on {board.dataset}{' (synthetic data)' if board.synthetic else ''}: {board.title}"]
    if trained := trained_on(board):
        words[0] += f" ({trained})"
    words.append(
        f"Macro AUROC and average precision (AP) on fold 10 over the labels with at least {metrics.MIN_POSITIVES} "
        "positives, means over runs, with 95 % intervals"
    )
    if board.standing:
        in_letters = differences_column(board)[0] == GROUP
        words.append(
            "Rows that share a letter do not differ significantly"
            if in_letters
            else "Differs from: the ranks of the rows from which a row differs significantly"
        )
    if compared:
        words.append(f"Δ baseline: the difference in macro AUROC from {board.plan.baseline}, paired by run")
        words.append(
            "p, Holm: corrected within the pair's role, which stands behind it; only declared roles (primary, "
            "family) support a claim"
        )
    return escape(". ".join(words) + ".")


def _notes(board: Board, shared: str) -> str:
    """Return the notes below a table: what all rows share, names behind labels, arguments, and rows of few runs."""
    words = [shared] if shared else []
    words += [note] if (note := labels_note(board.rows)) else []
    words += [f"Row {place}: {row.method}." for place, row in enumerate(board.rows, 1) if _is_short(row)]
    if any(row.few_runs for row in board.rows):
        words.append("* Fewer than three runs: no claim, and p is not corrected.")
    if any(map(few_draws, board.rows)):
        words.append(f"{SUBSET} Fewer than three draws of the share: claims are about the subsets at hand.")
    return re.sub(r"(,|\\_|=|\()", r"\1\\allowbreak{}", escape(" ".join(words)))


def _is_short(row: Row) -> bool:
    """Return whether the table leaves out a row's arguments."""
    return "(" in row.method and row.method not in row.labels


def _key(board: Board) -> str:
    """Return what `\\ref` names a table by, after `tab:`."""
    listed = f"-{board.manifest[-8:]}" if board.manifest else ""
    return re.sub(r"[^A-Za-z0-9.-]", "-", f"{board.task}-{board.fraction:g}{listed}")
