"""Draw the difference of each method from the baseline, over all tasks and in each task."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from bench.boards.across import Across, Both
from bench.boards.declared import BASELINE
from bench.files import write_whole
from bench.pages.pictures import COLORS, HOLLOW, INK, METADATA, STYLE


def draw_answers(studies: Sequence[tuple[str, Sequence[Across]]], margin: float, path: Path) -> Path | None:
    """Draw a forest plot as SVG: for each study (name, answers) its methods, each with its tasks below it.

    A hollow mark has fewer than three runs. The band is ± the margin. Return the path, or None without methods.
    """
    lines: list[tuple[str, Both | None, str]] = []
    for name, answers in studies:
        methods = [answer for answer in answers if answer.contrast.name.endswith(f" minus {BASELINE}")]
        for answer in sorted(methods, key=lambda answer: -answer.these_tasks.value):
            where = f"{len(answer.tasks)} tasks" if len(answer.tasks) > 1 else answer.tasks[0]
            lines.append((f"{answer.contrast.plus[0].method} ({name}), {where}", answer.these_tasks, COLORS[0]))
            if len(answer.by_task) > 1:
                lines += [(task, both, INK) for task, both in answer.by_task.items()]
    if not lines:
        return None
    import matplotlib as mpl  # takes 0.4 s, which boards without a new picture need not wait for
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.27 * len(lines)), layout=ConstrainedLayoutEngine(w_pad=0.15))
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.axvspan(-margin, margin, color=INK, alpha=0.15, linewidth=0)
        axes.axvline(0, color=INK, linewidth=1)
        for place, (_, both, color) in enumerate(reversed(lines)):
            if both is None:
                continue
            wide = 2.4 if color == COLORS[0] else 1.4
            axes.plot([both.low, both.high], [place, place], color=color, linewidth=wide, solid_capstyle="round")
            fill = HOLLOW if both.few else color
            axes.plot([both.value], [place], "o", color=color, markersize=3 + 1.5 * wide, markerfacecolor=fill)
        axes.set_yticks(range(len(lines)), [name for name, *_ in reversed(lines)])
        axes.set_ylim(-0.6, len(lines) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            f"macro AUROC minus that of {BASELINE}, 95 % interval; band: ± {margin:g}\n"
            "blue: over all tasks and shares; grey: one task; hollow: fewer than three runs"
        )
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata=METADATA["svg"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getvalue())
    return path
