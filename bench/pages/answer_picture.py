"""Draw the difference of each method from the baseline, over all tasks and in each task."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.boards.across import Across, Both
from bench.boards.declared import BASELINE
from bench.drawing import styled
from bench.files import write_whole
from bench.pages.pictures import COLORS, HOLLOW, INK, METADATA, STYLE
from bench.pages.spelling import spell_shares

WIDTH = 60
"""Number of characters in a line of a title, which fits beside the names of methods."""
Line = tuple[str, Both, str]
"""Name, difference and colour of a line of the picture."""


def draw_answers(studies: Sequence[tuple[str, Sequence[Across]]], margin: float, path: Path) -> Path | None:
    """Draw a forest plot as SVG: a part for each study (name, answers) with its methods, each with its tasks below it.

    A hollow mark has fewer than three runs and no interval. The band is ± the margin. Return the path, or None without
    methods.
    """
    parts = [(name, lines) for name, answers in studies if (lines := _lines(answers))]
    if not parts:
        return None
    import matplotlib as mpl  # takes 0.4 s, which boards without a new picture need not wait for
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    sizes = [len(lines) for _, lines in parts]
    with styled(STYLE):
        height = 1.0 + 0.45 * len(parts) + 0.24 * sum(sizes)
        figure = Figure(figsize=(7.5, height), layout=ConstrainedLayoutEngine(w_pad=0.15))
        figure.patch.set_alpha(0)
        every = figure.subplots(len(parts), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
        for axes, (name, lines) in zip(every, parts, strict=True):
            axes.set_title(textwrap.fill(name[:1].upper() + name[1:], WIDTH), loc="left")
            _draw(axes, lines, margin)
        figure.supxlabel(
            f"macro AUROC minus that of {BASELINE}, 95 % interval; band: ± {margin:g}\n"
            "blue: over the tasks and shares named; grey: one of the tasks; hollow: fewer than three runs, no interval",
            fontsize=mpl.rcParams["axes.labelsize"],
        )
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata=METADATA["svg"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getvalue())
    return path


def _lines(answers: Sequence[Across]) -> list[Line]:
    """Return a line for each method of a study, the best first, and for each of its tasks if there are several."""
    lines = []
    methods = [answer for answer in answers if answer.contrast.name.endswith(f" minus {BASELINE}")]
    for answer in sorted(methods, key=lambda answer: -answer.these_tasks.value):
        where = f"{len(answer.tasks)} tasks" if len(answer.tasks) > 1 else answer.tasks[0]
        name = f"{answer.contrast.plus[0].method}, {where}, {spell_shares(answer.fractions)}"
        lines.append((name, answer.these_tasks, COLORS[0]))
        if len(answer.by_task) > 1:
            lines += [(f"{task}, {spell_shares(shares)}", both, INK) for task, (shares, both) in answer.by_task.items()]
    return lines


def _draw(axes: Any, lines: Sequence[Line], margin: float) -> None:
    """Draw the lines of a study, the first at the top."""
    axes.patch.set_alpha(0)
    axes.axvspan(-margin, margin, color=INK, alpha=0.15, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    for place, (_, both, color) in enumerate(reversed(lines)):
        wide = 2.4 if color == COLORS[0] else 1.4
        if not both.few:
            axes.plot([both.low, both.high], [place, place], color=color, linewidth=wide, solid_capstyle="round")
        fill = HOLLOW if both.few else color
        axes.plot([both.value], [place], "o", color=color, markersize=3 + 1.5 * wide, markerfacecolor=fill)
    axes.set_yticks(range(len(lines)), [name for name, *_ in reversed(lines)])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.grid(axis="y", visible=False)
