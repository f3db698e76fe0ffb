"""Write everything beside the results: pages and pictures of each task, side pages, the ledger and the index.

Also what goes into a paper: LaTeX tables, CSV files and pictures as PDF or PNG.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.boards.across_simulations import SIMULATED
from bench.boards.answers import answers_frame, answers_of, judged
from bench.boards.elsewhere import BoardElsewhere, Robustness, boards_elsewhere, robustness_of
from bench.boards.frames import pairs_frame, results_frame, rows_frame
from bench.boards.power import VARIANCES, as_csv
from bench.boards.rows import Board, as_data, by_page, runs_of
from bench.boards.subgroups import subgroups_frame
from bench.boards.truth import Truth
from bench.errors import BenchError
from bench.evaluation.metrics import Reliability
from bench.files import write_at
from bench.pages import latex
from bench.pages import pictures as plots
from bench.pages.answer import ANSWER, answer_page
from bench.pages.answer_picture import draw_answers
from bench.pages.calibration import Calibrated, calibrate, calibration_page
from bench.pages.drawn import facts_of, remembered
from bench.pages.elsewhere import elsewhere_page
from bench.pages.html import write_html
from bench.pages.index import require_own_index
from bench.pages.ledger import ledger
from bench.pages.names import numbered
from bench.pages.page import write_pages
from bench.pages.robustness import draw_robustness
from bench.pages.subgroups import subgroup_page
from bench.pages.surroundings import Surroundings, read_rows

PICTURES: Sequence[tuple[str, str, Callable[[Board, Path], Path | None]]] = (
    ("forest", "Macro AUROC over frequent labels of each row with its interval", plots.forest),
    ("labels", "Difference from the baseline, label by label, on the conditions of the board", plots.label_differences),
    ("curves", "Fold-9 macro AUROC over all labels, epoch by epoch, of each run", plots.training_curves),
    ("cost", "Macro AUROC over frequent labels against training time", plots.cost),
)


FORMATS, ENDINGS = ("md", "csv", "tex", "json", "html"), ("svg", "pdf", "png")
"""Forms of boards, and of pictures."""


def write_formats(
    boards: Sequence[Board],
    folder: Path,
    truth: Truth,
    formats: Sequence[str],
    endings: Sequence[str],
    *,
    misses: bool = False,
    left_out: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write boards in these of FORMATS, and their pictures with these of ENDINGS; return the paths.

    `md` writes pages and their SVG pictures. `csv`: results, rows, comparisons, subgroups and answers (.csv).
    `tex`: <dataset>/<task>.tex. `json`: leaderboards.json. `html`: index.html and <dataset>/<task>.html, with
    `misses` also single records. Pictures lie in <dataset>/pictures. `left_out` is as in `write_leaderboards`.
    """
    written = write_leaderboards(boards, folder, truth, left_out=left_out) if "md" in formats else []
    if endings := [ending for ending in endings if ending != "svg" or "md" not in formats]:
        written += [path for group in by_page(boards).values() for path in _draw(group, folder, truth, endings)]
    if "csv" in formats:
        frames = {"results": results_frame(runs_of(boards)), "rows": rows_frame(boards)}
        frames |= {"comparisons": pairs_frame(boards), "subgroups": subgroups_frame(boards, truth)}
        frames |= {"answers": answers_frame(boards)}
        written += [write_at(folder / f"{name}.csv", frame.to_csv(index=False)) for name, frame in frames.items()]
    if "tex" in formats:
        pages = by_page(boards).items()
        written += [write_at(folder / dataset / f"{task}.tex", latex.tables(group)) for (dataset, task), group in pages]
    if "html" in formats:
        written += write_html(by_page(boards), folder, truth, misses=misses)
    if "json" in formats:
        written.append(write_at(folder / "leaderboards.json", json.dumps(as_data(boards), indent=1) + "\n"))
    return written


def _draw(group: Sequence[Board], folder: Path, truth: Truth, endings: Sequence[str]) -> list[Path]:
    """Draw every picture of a page, once for each ending."""
    drawn: list[Path | None] = []
    curves = {
        board: drawn_curves(board, rows)
        for board in group
        if board.truth is not None and board.rows and (rows := calibrate(board, truth))
    }
    for ending in endings:
        home = folder / group[0].dataset / "pictures"
        for board in group:
            slug = _slug(board, group)
            drawn += [draw(board, home / f"{slug}-{name}.{ending}") for name, _, draw in PICTURES]
            of_board, path = curves.get(board, {}), home / f"{slug}-reliability.{ending}"
            drawn.append(plots.reliability_curves(of_board, path, plots.title(board)))
        drawn.append(plots.sample_efficiency(_drawn(group), home / f"{group[0].task}-efficiency.{ending}"))
    return [path for path in drawn if path is not None]


def write_leaderboards(
    boards: Sequence[Board],
    folder: Path,
    truth: Truth,
    given: Path | None = None,
    *,
    anew: bool = False,
    left_out: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write pages and pictures of these boards and of the files in `given` [default: folder]; return their paths.

    What is remembered of the same results is not drawn and computed again, except with `anew`. Damaged evaluations
    elsewhere are left out, with a line each to `left_out`; without it they are an error.
    """
    require_own_index(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write to {folder}: {error.strerror}; --out names another folder") from None
    around = Surroundings.load(given or folder)
    pictures: dict[Board, list[tuple[str, str]]] = defaultdict(list)
    links: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    overviews: dict[tuple[str, str], str] = {}
    written: list[Path] = []
    for (dataset, task), group in by_page(boards).items():
        home = folder / dataset
        slugs = {board: _slug(board, group) for board in group}
        for board in group:
            for name, words, draw in PICTURES:
                target = home / "pictures" / f"{slugs[board]}-{name}.svg"
                draw_it = partial(_drawn_or_not, draw, board, target)
                files = remembered(target.name, facts_of([board], anew), home, draw_it)
                pictures[board] += [(words, f"pictures/{path.name}") for path in files]
                written += files
        facts = facts_of(group, anew, truth.content)
        if files := remembered("efficiency", facts, home, partial(_draw_efficiency, group, home)):
            overviews[dataset, task] = f"pictures/{files[0].name}"
            written += files
        for words, write in (("calibration and thresholds", _write_calibration), ("subgroups", _write_subgroups)):
            if side := remembered(write.__name__, facts, home, partial(write, group, slugs, home, truth)):
                links[dataset, task].append((words, side[-1].name))
                written += side
        if tested := [each for board in group for each in boards_elsewhere(board, left_out)]:
            written += _write_elsewhere(tested, slugs, home, task)
            links[dataset, task].append(("tested elsewhere", f"{task}-elsewhere.md"))
    written += write_answers(boards, folder, read_rows((given or folder) / SIMULATED), anew=anew)
    if around.reported:
        written.append(write_at(folder / "LEDGER.md", ledger(boards, around.reported, around.claims)))
    answered = [path.parent.name for path in written if path.name == ANSWER]
    return [*written, *write_pages(boards, folder, around, pictures, links, overviews, answered, anew=anew)]


def _write_elsewhere(tested: Sequence[BoardElsewhere], slugs: Mapping[Board, str], home: Path, task: str) -> list[Path]:
    """Write the pictures and the page of a task's tests elsewhere; return their paths."""
    corrupted, others = robustness_of(tested)
    drawn: dict[BoardElsewhere | Robustness, str] = {}
    for number, each in enumerate(others, 1):
        path = home / "pictures" / f"{slugs[each.board]}-elsewhere-{number}.svg"
        if plots.elsewhere(each, path):
            drawn[each] = f"pictures/{path.name}"
    for number, robustness in enumerate(corrupted, 1):
        path = home / "pictures" / f"{slugs[robustness.board]}-robustness-{number}.svg"
        draw_robustness(robustness, path)
        drawn[robustness] = f"pictures/{path.name}"
    page = write_at(home / f"{task}-elsewhere.md", elsewhere_page(others, corrupted, drawn))
    return [*(home / name for name in drawn.values()), page]


def write_answers(
    boards: Sequence[Board], folder: Path, simulated: Sequence[Mapping[str, str]], *, anew: bool
) -> list[Path]:
    """Write the page over all tasks of each data set with its picture, and the variances for `bench power`."""
    written: list[Path] = []
    for dataset, group in judged(boards).items():
        home = folder / dataset
        facts = facts_of(group, anew, simulated)
        written += remembered("answers", facts, home, partial(_write_answer, group, home, simulated))
    return written


def _write_answer(group: Sequence[Board], home: Path, simulated: Sequence[Mapping[str, str]]) -> list[Path]:
    answers = answers_of(group)
    if not answers:
        return []
    studies = [(f"{each.letter}: {each.study.name}", each.answers) for each in answers]
    picture = draw_answers(studies, answers[0].study.margin, home / "pictures" / "answer.svg")
    page = answer_page(group, answers, f"pictures/{picture.name}" if picture else "", simulated)
    variances = [variances for each in answers for variances in each.variances]
    written = [write_at(home / ANSWER, page), write_at(home / VARIANCES, as_csv(variances))]
    return [*written, picture] if picture else written


def _drawn_or_not(draw: Callable[[Board, Path], Path | None], board: Board, target: Path) -> list[Path]:
    return [path] if (path := draw(board, target)) else []


def _draw_efficiency(group: Sequence[Board], home: Path) -> list[Path]:
    path = plots.sample_efficiency(_drawn(group), home / "pictures" / f"{group[0].task}-efficiency.svg")
    return [path] if path else []


def _write_calibration(group: Sequence[Board], slugs: Mapping[Board, str], home: Path, truth: Truth) -> list[Path]:
    """Write the page on calibration, last, and its pictures; nothing without labels."""
    known = [board for board in group if board.truth is not None and board.rows]
    judged = [(board, rows) for board in known if (rows := calibrate(board, truth))]
    if not judged:
        return []
    curves, written = {}, []
    for board, rows in judged:
        path = home / "pictures" / f"{slugs[board]}-reliability.svg"
        if plots.reliability_curves(drawn_curves(board, rows), path, plots.title(board)):
            curves[board] = f"pictures/{path.name}"
            written.append(path)
    page = write_at(home / f"{group[0].task}-calibration.md", calibration_page(judged, curves))
    return [*written, page]


def _write_subgroups(group: Sequence[Board], slugs: Mapping[Board, str], home: Path, truth: Truth) -> list[Path]:
    """Write the page on subgroups; nothing without labels."""
    known = [board for board in group if board.truth is not None and board.rows]
    if not known:
        return []
    return [write_at(home / f"{group[0].task}-subgroups.md", subgroup_page(most_compared(known), truth))]


def drawn_curves(board: Board, rows: Sequence[Calibrated]) -> dict[str, Reliability]:
    """Return name of a row in pictures -> its reliability curve, for the rows that are drawn."""
    shown, names = plots.without_constant([each.row for each in rows])[: plots.MAX_LINES], numbered(board)
    return {names[each.row.name]: each.curve for each in rows if each.row in shown}


def most_compared(known: Sequence[Board]) -> Board:
    """Return the board with the most rows tested against a baseline; the first board if no row is tested."""
    return max(known, key=lambda board: len(board.standing.baseline) if board.standing else 0)


def not_at_hand(boards: Sequence[Board]) -> str:
    """Return the tasks whose scores were copied from results, because their labels are not available; or empty."""
    copied = [board for board in boards if board.rows and not board.recomputed]
    return ", ".join(dict.fromkeys(f"{board.task} on {board.dataset}" for board in copied))


def _slug(board: Board, group: Sequence[Board]) -> str:
    """Return the prefix of a board's picture files. It is unique on the page, also with manifests and fingerprints."""
    several = len({other.fingerprint for other in group}) > 1
    listed = f"-{board.manifest[-8:]}" if board.manifest else ""
    return f"{board.task}-{board.fraction:g}{listed}" + (f"-{board.fingerprint[:8]}" if several else "")


def _drawn(group: Sequence[Board]) -> list[Board]:
    """Return the boards with the first fingerprint, without those whose training records are from a manifest."""
    return [board for board in group if board.fingerprint == group[0].fingerprint and not board.manifest]
