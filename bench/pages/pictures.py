"""Draw boards as SVG that can be read on white and on dark, or as PDF and PNG for a paper.

The ending of the path decides. Equal results give equal bytes. Series differ in colour, marker and line style, so that
they can be distinguished in grey and by colour-blind readers.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.boards.comparisons import label_differences as label_differences_of
from bench.boards.comparisons import priors_of_labels
from bench.boards.elsewhere import BoardElsewhere
from bench.boards.rows import Board, Row, interval_of
from bench.drawing import styled
from bench.evaluation.metrics import Reliability
from bench.files import write_at
from bench.pages.costs import leaves_out_features, minutes
from bench.pages.names import numbered, places, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#767676"
"""Colour of lines and text: contrast 4.5 to 1 on white, 4.2 to 1 on GitHub's dark."""
COLORS = ("#2f7fc1", "#e07b39", "#3a9e6e", "#c2517b", "#8a6fc9", "#b59a2c", "#4fb3bf", "#a0694b")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may have two dollar signs
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
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
PAPER_INK = "#262626"
PAPER: dict[Any, Any] = {
    **STYLE,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), PAPER_INK
    ),
    "legend.labelcolor": PAPER_INK,
    "font.size": 9,
    "axes.titlesize": 9,
    "lines.linewidth": 1.4,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # journals refuse type 3 fonts
}
COLUMN = 3.5
"""Width of a column of a journal's page, inches."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
HOLLOW = "none"
MIN_BIN = 20
"""Least number of scores of a bin that is drawn."""
AROUND = ((13, 7), (13, -7), (-13, 7), (-13, -7), (0, 14), (0, -14))
"""Places of the numbers of rows around their points, points: neighbours often have almost the same cost."""
OTHERS = "other rows; numbers, where there is room: as in the table"
CHANCE = 0.5
"""The macro AUROC of scores that are the same for every record."""
SPREAD = 1.03
"""Ratio of the places of neighbouring rows on the logarithmic axis of fractions."""
MAX_LINES = 8
"""Rows with a colour of their own: the first of a board."""


METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
"""What is left out of a file, so that equal results give equal bytes."""


def title(board: Board) -> str:
    """Return the title of a board's pictures: task, data set and training records."""
    return f"{board.task} on {board.dataset}\n{board.title}"


def series() -> Iterator[dict[str, Any]]:
    """Return color, marker and line style of MAX_LINES series."""
    every = zip(COLORS, MARKERS, LINES, strict=True)
    return ({"color": color, "marker": marker, "linestyle": line} for color, marker, line in every)


def _narrow(figure: Figure, axes: Axes, in_legend: int) -> None:
    """Fit a picture into a column: break texts into lines, and leave out crowded ticks. `in_legend`: its lines."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    words = _wrapped(axes.get_title(loc="left"), 48)
    axes.set_title("", loc="left")
    figure.suptitle("\n".join(words), x=0.02, ha="left", fontsize=9)
    rows = [] if axes.get_ylabel() else [_wrapped_name(tick.get_text(), 20) for tick in axes.get_yticklabels()]
    if rows:
        axes.set_yticks(axes.get_yticks(), rows)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    below = _wrapped(axes.get_xlabel(), 40)
    axes.set_xlabel("\n".join(below), loc="right" if rows else "center")  # names leave the axis little room
    axes.set_ylabel("\n".join(_wrapped(axes.get_ylabel(), 29)))
    if axes.get_xscale() == "log" and len(axes.xaxis.get_minorticklocs()):
        low, high = axes.get_xlim()
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        if high > 50 * low:
            axes.xaxis.set_minor_formatter(NullFormatter())
    inside = 0.17 * sum(1.2 + row.count("\n") for row in rows) if rows else 2.3
    num_lines = len(words) + len(below) + in_legend
    figure.set_size_inches(COLUMN, inside + 0.3 + 0.17 * num_lines)


def _wrapped_name(name: str, width: int) -> str:
    """Return the name of a row; if it has more than `width` characters, on lines that break before "on" and at spaces.

    Words stay whole, as readers look names up in the tables.
    """
    parts = name.replace(" on ", "\non ").split("\n") if len(name) > width else [name]
    return "\n".join(line for part in parts for line in textwrap.wrap(part, max(width, 30), break_on_hyphens=False))


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken where they have more than `width` characters."""
    return [short for line in text.split("\n") for short in textwrap.wrap(line, width)]


@contextmanager
def _drawing(path: Path, width: float, height: float, finish: Callable[[Axes], None] | None = None) -> Iterator[Axes]:
    """Yield the axes of a picture, and write it to `path`. Before that `finish` is called: then the layout is known."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ending = path.suffix.removeprefix(".")
    paper = ending != "svg"
    with styled(PAPER if paper else STYLE):
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.04 if paper else 0.15))
        axes = figure.add_subplot()
        if not paper:
            figure.patch.set_alpha(0)
            axes.patch.set_alpha(0)
        yield axes
        handles, names = axes.get_legend_handles_labels()
        names = [_wrapped_name(name, 40) for name in names] if paper else names
        if paper:
            _narrow(figure, axes, sum(1 + name.count("\n") for name in names))
        if handles:
            add_legend(figure, handles, names, 1 if paper or len(handles) < 3 else 2)
        if finish:
            figure.draw_without_rendering()
            finish(axes)
        picture = io.BytesIO()
        figure.savefig(picture, format=ending, metadata=METADATA[ending])
    write_at(path, picture.getvalue())


def _find_room(axes: Axes) -> None:
    """Move the text of each point to the first place of AROUND where it covers no point and no text; else remove it."""
    from matplotlib.transforms import Bbox

    lines = [axes.transData.transform(np.asarray(line.get_xydata())) for line in axes.lines]
    taken = [Bbox([line[0], line[0]]).padded(4) for line in lines if len(line) == 1]
    for text in list(axes.texts):
        for place in AROUND:
            text.set_position(place)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            text.remove()


def add_legend(figure: Figure, handles: Iterable[Any], names: Iterable[str], ncols: int) -> None:
    """Put a legend below a figure's axes: in so many columns if they fit, else in one."""
    style: dict[str, Any] = {"loc": "outside lower center", "fontsize": 9, "handlelength": 3}
    legend = figure.legend(handles, names, ncols=ncols, **style)
    if ncols > 1 and legend.get_window_extent().width > figure.bbox.width:
        legend.remove()
        figure.legend(handles, names, **style)


def without_constant(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows whose scores are not constant; all rows if none is left. A row at 0.5 would widen the axis."""
    return [row for row in rows if not is_constant(row)] or rows


def is_constant(row: Row) -> bool:
    """Return whether scores are the same for every record: AUROC is 0.5 with an interval of no width, or of none."""
    return row.score == CHANCE and not row.interval.low < CHANCE < row.interval.high


def forest(board: Board, path: Path) -> Path | None:
    """Draw macro AUROC of each row with its interval, highest on top; return the path, or None without rows.

    A baseline is grey, and its value is dashed beside the rows compared with it. A row with fewer than three runs is
    hollow.
    """
    if not board.rows:
        return None
    baselines = board.standing.baselines if board.standing else ()
    compared = {name: pair.second for name, pair in board.standing.baseline.items()} if board.standing else {}
    values = {row.name: row.score for row in board.rows}
    rows, names = without_constant(board.rows), numbered(board)
    notes = {"baseline": "dashed: the value of the row's baseline, which is grey", "few": "fewer than three runs"}
    height = 1.0 + 0.32 * len(rows) + 0.3 * bool(baselines or any(row.few_runs for row in rows))
    with _drawing(path, 8, height) as axes:
        for place, row in enumerate(reversed(rows)):
            interval = interval_of(row.summaries["frequent"]["auroc"])
            color = INK if row.name in baselines else COLORS[0]
            axes.plot([interval.low, interval.high], [place, place], color=color, solid_capstyle="round")
            fill, note = (HOLLOW, notes.pop("few", None)) if row.few_runs else (color, None)
            axes.plot([interval.value], [place], "o", color=color, markersize=6, markerfacecolor=fill, label=note)
            if row.name in compared:
                dashed: dict[str, Any] = {"linewidth": 1, "linestyle": "--", "alpha": 0.7, "zorder": 0}
                at = [values[compared[row.name]]] * 2
                axes.plot(at, [place - 0.5, place + 0.5], color=INK, label=notes.pop("baseline", None), **dashed)
        axes.set_yticks(range(len(rows)), [names[row.name] for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(title(board), loc="left")
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("macro AUROC, frequent labels, 95 % interval")
    return path


def sample_efficiency(boards: Sequence[Board], path: Path) -> Path | None:
    """Draw macro AUROC against the training fraction: a line with intervals for each row with two fractions or more.

    Intervals of different rows stand beside each other, so that each can be seen.
    Return the path, or None where there is no such row.
    """
    points: dict[str, list[tuple[float, Row]]] = defaultdict(list)
    for board in boards:
        for row in board.rows:
            points[row.name].append((board.fraction, row))
    lines = {name: sorted(known, key=lambda point: point[0]) for name, known in points.items() if len(known) > 1}
    if not lines:
        return None
    best_first = sorted(lines, key=lambda name: (-lines[name][-1][1].score, name))[:MAX_LINES]
    short = {name: short_name(lines[name][0][1]) for name in best_first}
    known = list(short.values())
    with _drawing(path, 8, 4.6 + 0.12 * len(best_first)) as axes:
        for place, (name, style) in enumerate(zip(best_first, series(), strict=False)):
            shift = SPREAD ** (place - (len(best_first) - 1) / 2)
            fractions = [fraction for fraction, _ in lines[name]]
            intervals = [interval_of(row.summaries["frequent"]["auroc"]) for _, row in lines[name]]
            label = short[name] if known.count(short[name]) == 1 else name
            shifted = [fraction * shift for fraction in fractions]
            axes.plot(shifted, [i.value for i in intervals], **style, label=label, markersize=5)
            axes.vlines(
                shifted, [i.low for i in intervals], [i.high for i in intervals], color=style["color"], linewidth=1
            )
        axes.set_xscale("log")
        ticks = sorted({fraction for name in best_first for fraction, _ in lines[name]})
        axes.set_xticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(
            f"share of the training records ({_draws(row for name in best_first for _, row in lines[name])})"
        )
        axes.set_ylabel("macro AUROC, frequent labels, 95 % interval")
        axes.set_title(f"{boards[0].task} on {boards[0].dataset}", loc="left")
    return path


def _draws(rows: Iterable[Row]) -> str:
    """Return as text the range of the number of draws that rows have."""
    counts = sorted({len({run.cell["draw"] for run in row.runs}) for row in rows})
    number = "–".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return f"{number} draw" + "s" * (number != "1") + " of each share"


def training_curves(board: Board, path: Path) -> Path | None:
    """Draw fold-9 macro AUROC over the epochs of all phases: the mean of a row's runs, and each run as a thin line.

    Where runs stopped early, the mean is that of the others, and a phase is as long as in the run that trained longest.
    The axis starts at the lowest value of the second half of the epochs. A mean ends in the row's number. Return the
    path, or None without training.
    """
    trained = [row for row in without_constant(board.rows) if any(run.document["training"] for run in row.runs)][
        :MAX_LINES
    ]
    if not trained:
        return None
    names, late, highest = numbered(board), list[float](), 0.0
    ends, number_of = list[tuple[float, float, str, str]](), places(board)
    with _drawing(path, 8, 4.4 + 0.12 * len(trained)) as axes:
        for row, style in zip(trained, series(), strict=False):
            color = style["color"]
            phases = _aligned([[phase["val_macro_auroc"] for phase in run.document["training"]] for run in row.runs])
            joined = np.ma.hstack(phases)
            curves, mean = joined.filled(math.nan), joined.mean(axis=0).filled(math.nan)
            epochs = np.arange(1, len(mean) + 1)
            for curve in curves if len(curves) > 1 else ():
                axes.plot(epochs, curve, color=color, linewidth=0.6, alpha=0.45)
            every = max(1, len(mean) // 8)
            axes.plot(epochs, mean, **style, markevery=every, markersize=4, label=names[row.name])
            for end in itertools.accumulate(phase.shape[1] for phase in phases[:-1]):
                axes.plot([end], [mean[end - 1]], "|", color=color, markersize=14, markeredgewidth=2)
            if not math.isnan(mean[-1]):
                ends.append((float(epochs[-1]), float(mean[-1]), str(number_of[row.name]), color))
            late += _known(curves[:, len(mean) // 2 :])
            highest = max([highest, *_known(curves)])
        if late and min(late) < highest:
            margin = 0.05 * (highest - min(late))
            axes.set_ylim(min(late) - margin, highest + margin)
        for epoch, of_epoch in itertools.groupby(sorted(ends), key=lambda end: end[0]):
            ending = list(of_epoch)
            heights = _apart([value for _, value, *_ in ending], (highest - min(late)) / 20)
            for (_, _, number, color), height in zip(ending, heights, strict=True):
                beside: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
                axes.annotate(number, (epoch, height), **beside, color=color, fontsize=9)
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch (bar: end of a phase; thin: single runs; low values of the first epochs are cut off)")
        axes.set_ylabel("fold-9 macro AUROC, all labels")
        axes.set_title(title(board), loc="left")
    return path


def _aligned(runs: Sequence[Sequence[Sequence[float | None]]]) -> list[Any]:
    """Return for each phase the values [run, epoch] of `runs`, masked where a run had ended; NaN is an unknown one."""
    aligned = []
    for phases in itertools.zip_longest(*runs, fillvalue=()):
        values = np.ma.array(np.zeros((len(phases), max(map(len, phases)))), mask=True)
        for place, phase in enumerate(phases):
            values[place, : len(phase)] = np.array(phase, dtype=np.float64)
        aligned.append(values)
    return aligned


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """Return ascending values, moved as little as needed to lie at least `gap` apart."""
    moved = np.array(values)
    for _ in range(100):  # neighbours push each other away by half of what is missing
        missing = np.maximum(gap - np.diff(moved), 0) / 2
        moved[:-1] -= missing
        moved[1:] += missing
    return [float(value) for value in moved]


def _known(values: NDArray[np.float64]) -> list[float]:
    return [value for value in values.ravel().tolist() if not math.isnan(value)]


def label_differences(board: Board, path: Path) -> Path | None:
    """Draw the difference in AUROC of each label, for the first row that has a baseline minus the baseline.

    Labels are sorted, with their number of positives. Return the path, or None if no row has a baseline.
    """
    rows = {row.name: row for row in board.rows}
    contrasts = board.standing.baseline if board.standing else {}
    name = next((name for name in rows if name in contrasts), None)
    if name is None or board.truth is None:
        return None
    baseline = contrasts[name].second
    scored = {each: row.scored for each, row in rows.items()}
    priors = priors_of_labels(scored, board.truth)
    differences = label_differences_of(scored[name], scored[baseline], board.truth, priors)
    positives = dict(zip(board.truth.labels, board.truth.y_true.sum(axis=0).tolist(), strict=True))
    ordered = sorted(differences.items(), key=lambda item: (item[1].interval.value, item[0]))
    with _drawing(path, 8, 1.7 + 0.26 * len(ordered)) as axes:
        axes.axvline(0, color=INK, linewidth=1)
        for place, (_, difference) in enumerate(ordered):
            low, high, value = (getattr(difference.interval, name) for name in ("low", "high", "value"))
            clear = low > 0 or high < 0
            color = (COLORS[2] if value > 0 else COLORS[1]) if clear else INK
            axes.plot([low, high], [place, place], color=color, solid_capstyle="round")
            marker = (">" if value > 0 else "<") if clear else "o"
            axes.plot([value], [place], marker, color=color, markersize=6, markerfacecolor=color if clear else HOLLOW)
        axes.set_yticks(range(len(ordered)), [f"{label}, {positives[label]} positives" for label, _ in ordered])
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(
            "difference of AUROC, 95 % interval, not corrected for the number of labels\n"
            "filled: the interval excludes 0"
        )
        names = numbered(board)
        axes.set_title(f"{title(board)}\n{names[name]}\nminus {names[baseline]}", loc="left")
    return path


def cost(board: Board, path: Path) -> Path | None:
    """Draw macro AUROC against training minutes. A line joins the rows that no cheaper row exceeds (Pareto front).

    The first MAX_LINES rows are named; beside the others stands their number in the tables, where there is room. A row
    is hollow if its time may lack the pass that computes features; then no front is drawn. Return the path, or None
    for fewer than two trained rows.
    """
    trained = [row for row in without_constant(board.rows) if any(run.document["training"] for run in row.runs)]
    if len(trained) < 2:
        return None
    points = [(max(minutes(row), 1e-3), row.score) for row in trained]
    front: list[tuple[float, float]] = []
    names, hollow = numbered(board), [leaves_out_features(row) for row in trained]
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    with _drawing(path, 8, 4.2 + 0.12 * min(len(trained), MAX_LINES), _find_room) as axes:
        if len(front) > 1 and not any(hollow):
            axes.plot(*zip(*front, strict=True), "--", color=INK, linewidth=1.2, zorder=0, label="Pareto front")
        numbers = places(board)
        axes.set_xscale("log")
        axes.set_xmargin(0.08)  # room for numbers beside the outer points
        for place, (row, point) in enumerate(zip(trained, points, strict=True)):
            known = place < MAX_LINES
            color, marker = (COLORS[place], MARKERS[place]) if known else (INK, "o")
            interval = interval_of(row.summaries["frequent"]["auroc"])
            axes.plot([point[0]] * 2, [interval.low, interval.high], color=color, linewidth=1.2, alpha=0.6)
            label = names[row.name] if known else OTHERS if place == MAX_LINES else None
            fill = HOLLOW if hollow[place] else color
            axes.plot(*point, marker, color=color, markersize=7, markerfacecolor=fill, label=label)
            if not known:
                place_of: dict[str, Any] = {"xytext": AROUND[0], "textcoords": "offset points"}
                axes.annotate(str(numbers[row.name]), point, **place_of, fontsize=8, va="center", ha="center")
        of_decade = range(2, 10) if max(points)[0] < 10 * min(points)[0] else (2, 5)
        from matplotlib.ticker import LogLocator

        axes.xaxis.set_minor_locator(LogLocator(subs=of_decade))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", length=3.5, pad=3.5)  # labels of both kinds on one line
        without = "\nhollow: perhaps without the pass that computes a frozen backbone's features" if any(hollow) else ""
        axes.set_xlabel(f"training, minutes a run, on shared machines{without}")
        axes.set_ylabel("macro AUROC, frequent labels\n95 % interval")
        axes.set_title(title(board), loc="left")
    return path


def elsewhere(tested: BoardElsewhere, path: Path) -> Path | None:
    """Draw macro AUROC elsewhere against fold 10, each row with both intervals; the dashed line is equality.

    Return the path, or None without rows.
    """
    if not tested.rows:
        return None
    names = numbered(tested.board)
    with _drawing(path, 8, 5.4 + 0.12 * min(len(tested.rows), MAX_LINES)) as axes:
        for place, each in enumerate(tested.rows):
            color, marker = (COLORS[place], MARKERS[place]) if place < MAX_LINES else (INK, "o")
            label = names[each.row.name] if place < MAX_LINES else OTHERS if place == MAX_LINES else None
            home, away = each.home.interval, each.away.interval
            axes.plot([home.low, home.high], [away.value] * 2, color=color, linewidth=1.2, alpha=0.6)
            axes.plot([home.value] * 2, [away.low, away.high], color=color, linewidth=1.2, alpha=0.6)
            fill = HOLLOW if each.away.few_runs else color
            axes.plot(home.value, away.value, marker, color=color, markersize=7, markerfacecolor=fill, label=label)
        on_line = tested.rows[0].home.interval.value  # a point that does not widen the axes
        axes.axline((on_line, on_line), slope=1, color=INK, linewidth=1, linestyle="--", zorder=0)
        axes.set_title(title(tested.board), loc="left")
        axes.set_xlabel("macro AUROC on fold 10, 95 % interval; dashed: equal on both; hollow: fewer than three runs")
        axes.set_ylabel(f"macro AUROC on {tested.title}")
    return path


def reliability_curves(curves: Mapping[str, Reliability], path: Path, words: str = "") -> Path | None:
    """Draw by how much the share of positives exceeds the mean probability of each bin, frequent labels pooled.

    Rows of a board have almost the same curve: beside the diagonal of the usual picture they would be a tangle.
    `words` is the title. Return the path, or None without curves.
    """
    if not curves:
        return None
    with _drawing(path, 8, 4.4 + 0.12 * len(curves)) as axes:
        axes.axhline(0, color=INK, linewidth=1, linestyle="--")
        for (name, curve), style in zip(curves.items(), series(), strict=False):
            kept = curve.num_records[:, 0] >= MIN_BIN
            excess = curve.positive_rate[kept, 0] - curve.mean_prob[kept, 0]
            axes.plot(curve.mean_prob[kept, 0], excess, **style, label=name, markersize=5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(
            f"mean predicted probability (bins of at least {MIN_BIN} scores)\n"
            "above 0: more are positive than predicted; dashed: as predicted"
        )
        axes.set_ylabel("share that is positive − probability")
        axes.set_title(words, loc="left")
    return path
