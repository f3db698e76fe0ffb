"""Draw how the score of each method falls with the strength of corruptions: one panel a corruption, one curve a row."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.boards.elsewhere import Robustness
from bench.data.corruptions import KINDS
from bench.drawing import styled
from bench.evaluation.bootstrap import Interval
from bench.files import write_at
from bench.pages.names import numbered
from bench.pages.pictures import CHANCE, INK, MAX_LINES, METADATA, STYLE, add_legend, series, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
"""Panels beside each other."""
CLEAN = "none"


def draw_robustness(robustness: Robustness, path: Path) -> None:
    """Draw macro AUROC against strength, from mild to severe, with bands of 95 % intervals, as SVG.

    All panels share the vertical axis and begin with the score on records as they are. Strengths stand at equal
    distances, because each corruption has a unit of its own. A dashed line marks chance if it is near.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    curves = list(robustness.curves.items())
    num_rows = math.ceil(len(curves) / COLUMNS)
    with styled(STYLE):
        figure = Figure(figsize=(9, 0.9 + 2.9 * num_rows), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
        figure.patch.set_alpha(0)
        panels = figure.subplots(num_rows, min(COLUMNS, len(curves)), sharey=True, squeeze=False)
        handles: dict[str, Any] = {}
        for at, (axes, (name, curve)) in enumerate(zip(panels.flat, curves, strict=False)):
            _draw_panel(axes, robustness, name, handles)
            ticks = [CLEAN, *(f"{strength:g}" for strength, _ in curve)]
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlabel(KINDS[name].strength)
            axes.set_title(name.replace("-", " "), loc="left")
            if at % COLUMNS == 0:
                axes.set_ylabel("macro AUROC")
        for axes in panels.flat[len(curves) :]:
            axes.set_visible(False)
        figure.suptitle(title(robustness.board), x=0.02, ha="left", fontsize=10)
        add_legend(figure, handles.values(), handles, 2)
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata=METADATA["svg"])
    write_at(path, picture.getvalue())


def _draw_panel(axes: Axes, robustness: Robustness, corruption: str, handles: dict[str, Any]) -> None:
    """Draw a panel: for each of the first rows a line, its band and its markers. `handles`: name -> line."""
    axes.patch.set_alpha(0)
    axes.grid(axis="x", visible=False)
    names, curve = numbered(robustness.board), robustness.curves[corruption]
    lowest = 1.0
    for row, style in zip(robustness.board.rows[:MAX_LINES], series(), strict=False):
        points: list[tuple[int, Interval]] = []
        for place, (_, tested) in enumerate(curve, 1):
            scores = next((each for each in tested.rows if each.row.name == row.name), None)
            if scores:
                points += [] if points else [(0, scores.home.interval)]
                points.append((place, scores.away.interval))
        if not points:
            continue
        places, intervals = zip(*points, strict=True)
        low, high = [each.low for each in intervals], [each.high for each in intervals]
        axes.fill_between(places, low, high, color=style["color"], alpha=0.13, linewidth=0)
        (line,) = axes.plot(places, [each.value for each in intervals], **style, markersize=5)
        handles.setdefault(names[row.name], line)
        lowest = min(lowest, *low)
    if lowest < CHANCE + 0.03:
        axes.axhline(CHANCE, color=INK, linewidth=1, linestyle="--", zorder=0)
