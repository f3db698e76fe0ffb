"""Boards become pictures: SVG that reads on white and on dark, the same bytes for the same results."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.reporting.boards import Board, Row, interval_of

INK = "#808080"
COLORS = ("#2f7fc1", "#e07b39", "#3a9e6e", "#c2517b", "#8a6fc9", "#b59a2c", "#4fb3bf", "#a0694b")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
}


def name_of(row: Row) -> str:
    """A row in words."""
    init = "" if row.init == "random" else f" ({row.init})"
    return f"{row.method}, {row.backbone}{init}"


@contextmanager
def _drawing(path: Path, width: float, height: float) -> Iterator[Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def forest(board: Board, path: Path) -> Path:
    """Macro AUROC of each row with its interval, best on top."""
    with _drawing(path, 8, 0.9 + 0.34 * len(board.rows)) as axes:
        for place, row in enumerate(reversed(board.rows)):
            found = interval_of(row.summaries["frequent"]["auroc"])
            axes.plot([found.low, found.high], [place, place], color=COLORS[0], solid_capstyle="round")
            axes.plot([found.value], [place], "o", color=COLORS[0], markersize=6)
        axes.set_yticks(range(len(board.rows)), [name_of(row) for row in reversed(board.rows)])
        axes.set_ylim(-0.6, len(board.rows) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("macro AUROC, 95 % interval over patients")
    return path


def sample_efficiency(boards: Sequence[Board], path: Path) -> Path | None:
    """Macro AUROC against the training fraction, a line a row that has two fractions or more, a band its interval."""
    points: dict[tuple[str, str, str], list[tuple[float, Row]]] = defaultdict(list)
    for board in boards:
        for row in board.rows:
            points[row.backbone, row.init, row.method].append((board.fraction, row))
    lines = {key: sorted(found, key=lambda one: one[0]) for key, found in points.items() if len(found) > 1}
    if not lines:
        return None
    with _drawing(path, 8, 4.6) as axes:
        for (_, found), color in zip(sorted(lines.items()), itertools.cycle(COLORS)):
            fractions = [fraction for fraction, _ in found]
            intervals = [interval_of(row.summaries["frequent"]["auroc"]) for _, row in found]
            axes.plot(
                fractions, [i.value for i in intervals], "o-", color=color, label=name_of(found[0][1]), markersize=5
            )
            axes.fill_between(
                fractions, [i.low for i in intervals], [i.high for i in intervals], color=color, alpha=0.13, linewidth=0
            )
        axes.set_xscale("log")
        ticks = sorted({board.fraction for board in boards})
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("fraction of the training records")
        axes.set_ylabel("macro AUROC")
        axes.legend(loc="lower right", fontsize=9)
    return path


def training_curves(board: Board, path: Path) -> Path:
    """Fold-9 macro AUROC over the epochs of all phases, a line a run, a colour a row."""
    with _drawing(path, 8, 4.6) as axes:
        for row, color in zip(board.rows, itertools.cycle(COLORS)):
            for at, run in enumerate(row.runs):
                phases = [phase["val_macro_auroc"] for phase in run.document["training"]]
                curve = list(itertools.chain(*phases))
                label = name_of(row) if at == 0 else None
                axes.plot(range(1, len(curve) + 1), curve, color=color, linewidth=1.2, alpha=0.85, label=label)
                for end in itertools.accumulate(len(phase) for phase in phases[:-1]):
                    axes.plot([end], [curve[end - 1]], "o", color=color, markersize=4)
        axes.set_xlabel("epoch (a dot ends a phase)")
        axes.set_ylabel("fold-9 macro AUROC")
        axes.legend(loc="lower right", fontsize=9)
    return path


def cost(board: Board, path: Path) -> Path:
    """Macro AUROC against training minutes; the line joins the rows that no cheaper row beats."""
    with _drawing(path, 8, 4.6) as axes:
        points = []
        for row, color in zip(board.rows, itertools.cycle(COLORS)):
            minutes = float(np.mean([sum(p["seconds"] for p in run.document["training"]) for run in row.runs])) / 60
            points.append((minutes, row.score))
            axes.plot([minutes], [row.score], "o", color=color, markersize=7, label=name_of(row))
        best, front = -math.inf, []
        for minutes, score in sorted(points):
            if score > best:
                front.append((minutes, score))
                best = score
        axes.plot(*zip(*front, strict=True), "--", color=INK, linewidth=1, zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("training, minutes (machines may differ: see each result)")
        axes.set_ylabel("macro AUROC")
        axes.legend(loc="lower right", fontsize=9)
    return path
