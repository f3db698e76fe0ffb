"""Pictures draw the numbers of their boards: what is plotted is caught and compared, colours and bytes are checked."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Annotation

from bench.boards.comparisons import Comparison, Standing
from bench.boards.declared import BoardPlan
from bench.boards.rows import Board, Row
from bench.evaluation.bootstrap import Interval
from bench.evaluation.metrics import Reliability
from bench.pages import pictures as plots
from bench.pages.costs import minutes
from bench.results.result import Result


def row(name: str, value: float, curves: list[list[float | None]] | None = None, seconds: float = 60.0) -> Row:
    """A row of one run a list of epochs; each run has two phases, cut after its second epoch."""
    runs = []
    for seed, curve in enumerate(curves or [[0.5, 0.6, 0.7]]):
        phases = [curve[:2], curve[2:]]
        training = [{"val_macro_auroc": phase, "seconds": seconds / 2} for phase in phases]
        runs.append(Result(Path(), {"training": training, "cell": {"method": name, "draw": 0, "seed": seed}}))
    return Row("net", "random", name, tuple(runs), {"frequent": {"auroc": Interval(value, value - 0.02, value + 0.01)}})


def board(*rows: Row, fraction: float = 1.0) -> Board:
    return Board("ptb-xl-1.0.3", False, "form", "f", fraction, "", rows, (), None, BoardPlan(), None)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes that pictures draw on, instead of files."""
    found: list[Axes] = []

    @contextmanager
    def catch(path: Path, width: float, height: float, finish: object = None) -> Iterator[Axes]:
        found.append(Figure().add_subplot())
        yield found[-1]

    monkeypatch.setattr(plots, "_drawing", catch)
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were saved, in order."""
    found: list[Figure] = []
    save = Figure.savefig

    def caught_too(figure: Figure, *words: Any, **options: Any) -> None:
        save(figure, *words, **options)
        found.append(figure)

    monkeypatch.setattr(Figure, "savefig", caught_too)
    return found


def lines_of(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of what has one."""
    return {
        str(line.get_label()): (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def test_sample_efficiency_joins_the_fractions_of_a_row(caught: list[Axes], tmp_path: Path) -> None:
    boards = [
        board(row("ft", 0.9), row("lp", 0.88), row("once", 0.95)),
        board(row("lp", 0.8), row("ft", 0.7), fraction=0.1),
        board(row("ft", 0.6), fraction=0.01),
    ]
    assert plots.sample_efficiency(boards, tmp_path / "x.svg") is not None
    (axes,) = caught

    left, right = plots.SPREAD**-0.5, plots.SPREAD**0.5  # beside each other, so that both intervals are seen
    assert lines_of(axes) == {
        "ft on net (random)": (pytest.approx([0.01 * left, 0.1 * left, left]), [0.6, 0.7, 0.9]),
        "lp on net (random)": (pytest.approx([0.1 * right, right]), [0.8, 0.88]),
    }
    intervals = [np.asarray(path.vertices).tolist() for path in axes.collections[0].get_paths()]
    assert intervals == [
        [pytest.approx([share * left, value - 0.02]), pytest.approx([share * left, value + 0.01])]
        for share, value in ((0.01, 0.6), (0.1, 0.7), (1.0, 0.9))
    ]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    assert plots.sample_efficiency(boards[:1], tmp_path / "x.svg") is None


def test_training_curves_draw_every_run_thin_and_their_mean(caught: list[Axes], tmp_path: Path) -> None:
    curves: list[list[float | None]] = [[0.5, 0.6, 0.7, 0.8], [0.4, None, 0.65, 0.66]]
    assert plots.training_curves(board(row("lpft", 0.9, curves), row("ft", 0.8)), tmp_path / "x.svg") is not None
    (axes,) = caught
    drawn = [line for line in axes.lines if len(np.asarray(line.get_xdata())) > 1]
    ends = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == 1]

    assert len(drawn) == 4  # two runs, their mean, and the other row's one run
    assert np.asarray(drawn[0].get_ydata()).tolist() == curves[0]
    np.testing.assert_array_equal(np.asarray(drawn[1].get_ydata()), [0.4, np.nan, 0.65, 0.66])
    np.testing.assert_allclose(np.asarray(drawn[2].get_ydata()), [0.45, np.nan, 0.675, 0.73])
    assert drawn[0].get_linewidth() < drawn[2].get_linewidth()
    assert all(np.asarray(line.get_xdata())[0] == 1 for line in drawn)
    assert len({line.get_color() for line in drawn[:3]}) == 1  # runs of a row share its colour
    assert drawn[3].get_color() != drawn[0].get_color()
    assert [np.asarray(line.get_xdata()).tolist() for line in ends] == [[2], [2]]
    assert list(lines_of(axes)) == ["1. lpft on net (random)", "2. ft on net (random)"]


def test_curves_of_runs_that_stopped_early_are_aligned_by_phase(caught: list[Axes], tmp_path: Path) -> None:
    """Runs with patience differ in length; one has no record of its training."""
    shown = row("lpft", 0.9, [[0.5, 0.6, 0.7], [0.4, 0.5], [0.1]])
    lengths = [(2, 1), (1, 1), ()]
    for run, ends in zip(shown.runs, lengths, strict=True):
        values = iter([value for phase in run.document["training"] for value in phase["val_macro_auroc"]])
        phases = [{"val_macro_auroc": [next(values) for _ in range(num)]} for num in ends]
        run.document["training"] = phases  # type: ignore[index]
    assert plots.training_curves(board(shown), tmp_path / "x.svg") is not None
    (axes,) = caught
    drawn = [np.asarray(line.get_ydata()) for line in axes.lines if len(np.asarray(line.get_xdata())) > 1]
    ends = [np.asarray(line.get_xdata()).tolist() for line in axes.lines if len(np.asarray(line.get_xdata())) == 1]

    np.testing.assert_array_equal(drawn[:3], [[0.5, 0.6, 0.7], [0.4, np.nan, 0.5], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(drawn[3], [0.45, 0.6, 0.6])
    assert ends == [[2]]


def test_a_mean_ends_in_its_rows_number_and_numbers_do_not_cover_each_other(caught: list[Axes], tmp_path: Path) -> None:
    shown = board(row("a", 0.9, [[0.5, 0.6, 0.9]]), row("b", 0.8, [[0.5, 0.6, 0.9]]), row("c", 0.7, [[0.5, 0.6]]))
    plots.training_curves(shown, tmp_path / "x.svg")
    texts = {text.get_text(): text.xy for text in caught[0].texts if isinstance(text, Annotation)}

    assert {number: epoch for number, (epoch, _) in texts.items()} == {"1": 3, "2": 3, "3": 2}
    assert texts["3"][1] == pytest.approx(0.6)
    heights = [texts[number][1] for number in "12"]
    assert np.mean(heights) == pytest.approx(0.9)
    assert abs(heights[0] - heights[1]) == pytest.approx((0.9 - 0.6) / 20)
    assert plots._apart([0.0, 0.0, 0.0, 9.0], 1.0) == pytest.approx([-1.0, 0.0, 1.0, 9.0], abs=1e-6)


def test_early_epochs_do_not_take_the_axis(caught: list[Axes], tmp_path: Path) -> None:
    curves: list[list[float | None]] = [[0.5, 0.6, 0.88, 0.9], [0.3, 0.91, 0.87, 0.89]]
    plots.training_curves(board(row("ft", 0.9, curves)), tmp_path / "x.svg")
    low, high = caught[0].get_ylim()

    assert 0.865 < low < 0.87  # the lowest of the second half is on it
    assert 0.91 < high < 0.915  # and the highest of all


def test_cost_joins_what_no_cheaper_row_beats(caught: list[Axes], tmp_path: Path) -> None:
    """By brute force: on the front is who is better than everyone who is as cheap or cheaper."""
    random = np.random.default_rng(0)
    rows = [row(f"m{at}", random.uniform(0.6, 0.9), seconds=random.uniform(10, 1000)) for at in range(7)]
    assert plots.cost(board(*rows), tmp_path / "x.svg") is not None
    found = lines_of(caught[0])
    points = [(minutes(one), one.score) for one in rows]
    front = sorted(one for one in points if not any(o[0] <= one[0] and o[1] > one[1] for o in points))

    assert list(zip(*found.pop("Pareto front"), strict=True)) == front
    assert 1 < len(front) < 7
    assert {name: (x[0], y[0]) for name, (x, y) in found.items()} == {
        f"{place}. {one.name}": point for place, (one, point) in enumerate(zip(rows, points, strict=True), 1)
    }
    assert plots.cost(board(rows[0]), tmp_path / "x.svg") is None


@pytest.mark.parametrize(
    ("seconds", "named"), [((0.5, 100), ["0.02", "0.05", "0.2", "0.5"]), ((1300, 3500), ["30", "40", "50"])]
)
def test_minutes_are_named_in_plain_numbers_that_do_not_touch(
    caught: list[Axes], tmp_path: Path, seconds: tuple[float, float], named: list[str]
) -> None:
    plots.cost(board(*(row(f"m{at}", 0.8, seconds=one) for at, one in enumerate(seconds))), tmp_path / "x.svg")
    axis = caught[0].xaxis
    low, high = (one / 60 for one in seconds)
    ticks = [tick for tick in axis.get_minorticklocs() if low <= tick <= high]

    assert axis.get_minor_formatter().format_ticks(ticks) == named


def test_costs_that_cannot_be_compared_have_no_front(caught: list[Axes], tmp_path: Path) -> None:
    rows = row("ft", 0.9, seconds=100), row("lp", 0.8, seconds=1)
    plots.cost(board(*rows), tmp_path / "x.svg")
    for phase in rows[1].runs[0].document["training"]:
        phase["on_features"] = True
    plots.cost(board(*rows), tmp_path / "x.svg")
    before, after = caught

    assert "Pareto front" in lines_of(before)
    assert "Pareto front" not in lines_of(after)
    hollow = {str(line.get_label()): line.get_markerfacecolor() == "none" for line in after.lines}
    assert (hollow["1. ft on net (random)"], hollow["2. lp on net (random)"]) == (False, True)
    assert ("hollow" in before.get_xlabel(), "hollow" in after.get_xlabel()) == (False, True)


def test_minutes_are_the_mean_of_runs() -> None:
    one = row("ft", 0.9, [[0.5, 0.6], [0.5, 0.6]], seconds=120)
    assert minutes(one) == 2


def test_the_forest_has_the_best_row_on_top(caught: list[Axes], tmp_path: Path) -> None:
    assert plots.forest(board(row("good", 0.9), row("bad", 0.8)), tmp_path / "x.svg") is not None
    (axes,) = caught

    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "2. bad on net (random)",
        "1. good on net (random)",
    ]
    bars = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert bars == [pytest.approx([0.78, 0.81]), [0.8], pytest.approx([0.88, 0.91]), [0.9]]


def test_the_forest_says_what_is_dashed(caught: list[Axes], tmp_path: Path) -> None:
    """Orange is worse in the picture of labels: no baseline is."""
    rows = row("lpft", 0.9), row("ft", 0.8), row("lp", 0.7)
    found = Comparison("", rows[1].name, 1, {}, 1.0, 1.0, False)
    standing = Standing({}, {}, (), {rows[0].name: found, rows[2].name: found})
    plots.forest(Board("d", False, "form", "f", 1.0, "", rows, (), None, BoardPlan(), standing), tmp_path / "x.svg")
    (axes,) = caught

    assert lines_of(axes) == {
        "dashed: the value of the row's baseline, which is grey": ([0.8, 0.8], [-0.5, 0.5]),
        "fewer than three runs": ([0.7], [0]),
    }
    dashed = [np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [[-0.5, 0.5], [1.5, 2.5]], "beside the rows that are compared with it"
    assert {line.get_color() for line in axes.lines} == {plots.COLORS[0], plots.INK}


def test_constant_scores_do_not_squeeze_the_pictures(caught: list[Axes], tmp_path: Path) -> None:
    same = {"frequent": {"auroc": Interval(0.5, 0.5, 0.5)}}
    rows = row("ft", 0.9), row("lp", 0.88), replace(row("constant", 0.5), summaries=same)
    for draw in (plots.forest, plots.training_curves, plots.cost):
        draw(board(*rows), tmp_path / "x.svg")
    forest, curves, cost = caught

    names = ["1. ft on net (random)", "2. lp on net (random)"]
    assert [label.get_text() for label in forest.get_yticklabels()] == names[::-1]
    assert list(lines_of(curves)) == names
    assert "3. constant on net (random)" not in lines_of(cost)
    assert plots.forest(board(rows[2]), tmp_path / "x.svg") is not None  # but alone it is shown


def test_a_row_at_chance_whose_scores_differ_is_drawn(caught: list[Axes], tmp_path: Path) -> None:
    """AUROC is 0.5000 by accident: the interval has a width."""
    plots.forest(board(row("ft", 0.9), row("no better than chance", 0.5)), tmp_path / "x.svg")

    assert len(caught[0].get_yticklabels()) == 2


def test_reliability_leaves_out_bins_of_few_scores(caught: list[Axes], tmp_path: Path) -> None:
    columns = (np.array([[0.1], [0.5], [0.9]]), np.array([[0.2], [0.4], [0.8]]), np.array([[500], [5], [20]]))
    assert plots.reliability_curves({"ft": Reliability(*columns)}, tmp_path / "x.svg") is not None

    assert lines_of(caught[0]) == {"ft": ([0.1, 0.9], pytest.approx([0.2 - 0.1, 0.8 - 0.9]))}


PICTURES: list[Callable[[Board, Path], Any]] = [plots.forest, plots.training_curves, plots.cost]


@pytest.mark.parametrize("draw", PICTURES)
def test_pictures_are_the_same_bytes_without_a_background(draw: Callable[[Board, Path], Any], tmp_path: Path) -> None:
    shown = board(row("ft", 0.9), row("lp", 0.85, seconds=20.0))
    first, second = (draw(shown, tmp_path / f"{at}.svg").read_bytes() for at in range(2))
    text = first.decode()

    assert first == second
    assert not re.search(r"fill: ?(#ffffff|white|#000000|black)", text)
    assert "ft on net (random)" in text


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
def test_every_colour_is_seen_on_white_and_on_dark(background: str) -> None:
    """Contrast of at least 2.3 to 1 with both, and 4.1 of what is text: one colour must do on either."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for color in (plots.INK, *plots.COLORS):
        light, dark = sorted((luminance(color), luminance(background)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > (4.1 if color == plots.INK else 2.3), color
    assert len(set(plots.COLORS)) == plots.MAX_LINES
    assert not set(itertools.chain(plots.COLORS)) & {plots.INK}


def test_series_differ_without_their_colours(caught: list[Axes], tmp_path: Path) -> None:
    rows = [row(f"m{at}", 0.9 - at / 100) for at in range(10)]
    plots.sample_efficiency([board(*rows), board(*rows, fraction=0.1)], tmp_path / "x.svg")
    plots.training_curves(board(*rows), tmp_path / "x.svg")
    curves = {name: Reliability(*[np.full((2, 1), 50.0)] * 3) for name in "abcdefghij"}
    plots.reliability_curves(curves, tmp_path / "x.svg")

    for axes in caught:
        named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        assert len(named) == plots.MAX_LINES == 8
        assert len({line.get_marker() for line in named}) == 8
        assert len({str(line._dash_pattern) for line in named}) == 8  # type: ignore[attr-defined]


def test_costs_name_every_row(caught: list[Axes], tmp_path: Path) -> None:
    rows = [row(f"m{at}", 0.9 - at / 100, seconds=60 + at) for at in range(11)]
    plots.cost(board(*rows), tmp_path / "x.svg")
    (axes,) = caught

    assert [text.get_text() for text in axes.texts] == ["9", "10", "11"]
    assert [text.xy for text in axes.texts] == [(minutes(one), one.score) for one in rows[8:]]  # type: ignore[attr-defined]
    assert len({line.get_marker() for line in axes.lines if "." in str(line.get_label())}) == 8
    assert plots.OTHERS in lines_of(axes)


def test_costs_of_many_rows_are_readable(drawn: list[Figure], tmp_path: Path) -> None:
    """70 of 71 rows cost almost the same, so most of their numbers have no room."""
    rows = [row(f"method {at}", 0.9 - at / 1000, seconds=60 + at % 7) for at in range(70)]
    plots.cost(board(*rows, row("far", 0.7, seconds=1)), tmp_path / "x.svg")
    (axes,) = drawn[0].axes

    boxes = [text.get_window_extent() for text in axes.texts]
    assert 2 <= len(boxes) < 30 and axes.texts[-1].get_text() == "71"
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("ending", ["svg", "pdf"])
@pytest.mark.parametrize("name", ["ft", "a method with a long name", "a method with a long name in several words"])
def test_no_text_of_a_picture_of_many_rows_is_cut_off(
    draw: Callable[[Board, Path], Any], ending: str, name: str, drawn: list[Figure], tmp_path: Path
) -> None:
    """With `on_features`, the picture of costs has two lines of text below its axis, and lower axes."""
    rows = [row(f"{name} {at}", 0.9 - at / 100, seconds=60.0 + at) for at in range(10)]
    for phase in rows[1].runs[0].document["training"]:
        phase["on_features"] = True
    draw(board(*rows), tmp_path / f"x.{ending}")

    (figure,) = drawn
    width, height = figure.get_size_inches()
    inked = figure.get_tightbbox()
    slack = 0.04 if ending == "pdf" else 0.0  # inches: Agg measures text a little wider than PDF draws it
    assert -slack <= inked.x0 <= inked.x1 <= width + slack and -slack <= inked.y0 <= inked.y1 <= height + slack


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("name", ["ft", "lpft-sd(lr=1)", "a method with a long name in several words"])
def test_pictures_of_a_paper_fit_in_a_column(draw: Callable[[Board, Path], Any], name: str, tmp_path: Path) -> None:
    """Text that runs out of a picture leaves ink on its border; the width is 3.5 inches at 300 dots an inch."""
    shown = board(*(row(f"{name} {at}", 0.9 - at / 50, seconds=20.0 * (at + 1)) for at in range(3)))
    pixels = imread(draw(shown, tmp_path / "x.png"))[..., :3]

    assert pixels.shape[1] == 1050
    assert pixels.min() < 0.3
    for border in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (border == 1).all()


def test_a_pdf_is_the_same_bytes_with_fonts_that_journals_take(tmp_path: Path) -> None:
    first, second = (plots.cost(board(row("ft", 0.9), row("lp", 0.8)), tmp_path / f"{at}.pdf") for at in range(2))
    assert first is not None
    assert second is not None
    assert first.read_bytes() == second.read_bytes()
    assert b"/Type3" not in first.read_bytes()
    assert b"/MediaBox [ 0 0 252 " in first.read_bytes()  # 3.5 inches


def test_long_names_are_short_and_numbered_by_place(caught: list[Axes], tmp_path: Path) -> None:
    rows = [row(f"ft(lr={value}, note=')')", value) for value in (0.9, 0.8)]

    plots.forest(board(*rows), tmp_path / "x.svg")
    plots.sample_efficiency([board(*rows), board(*rows, fraction=0.1)], tmp_path / "x.svg")

    names = [text.get_text() for text in caught[0].get_yticklabels()]
    assert names == ["2. ft(…) on net (random)", "1. ft(…) on net (random)"]
    assert set(lines_of(caught[1])) == {one.name for one in rows}  # short names alike would not tell them apart


@pytest.mark.parametrize(
    ("name", "ncols"), [("ft on net1d_mini", 2), ("ft on net1d_mini (12 epochs on rhythm and form (2))", 1)]
)
def test_a_legend_has_as_many_columns_as_fit(name: str, ncols: int) -> None:
    figure = Figure(figsize=(8, 5), layout="constrained")
    lines = [figure.add_subplot().plot([0, 1])[0] for _ in range(3)]

    plots.add_legend(figure, lines, [name] * 3, 2)
    figure.canvas.draw()

    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert legend._ncols == ncols  # type: ignore[attr-defined]
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
