"""Write everything beside the results: pages and pictures of each task, side pages, the ledger and the index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.boards.elsewhere import boards_elsewhere
from bench.boards.rows import Board
from bench.boards.truth import Truth
from bench.errors import BenchError
from bench.evaluation.metrics import Reliability
from bench.files import write_whole
from bench.pages import pictures as plots
from bench.pages.calibration import Calibrated, calibrate, calibration_page
from bench.pages.elsewhere import elsewhere_page
from bench.pages.ledger import ledger
from bench.pages.names import numbered
from bench.pages.page import Surroundings, write_pages
from bench.pages.subgroups import subgroup_page

PICTURES: Sequence[tuple[str, str, Callable[[Board, Path], Path | None]]] = (
    ("forest", "Macro AUROC over frequent labels of each row with its interval", plots.forest),
    ("labels", "Difference from the baseline, label by label, on the conditions of the board", plots.label_differences),
    ("curves", "Fold-9 macro AUROC over all labels, epoch by epoch, of each run", plots.training_curves),
    ("cost", "Macro AUROC over frequent labels against training time", plots.cost),
)


def write_leaderboards(boards: Sequence[Board], folder: Path, truth: Truth, given: Path | None = None) -> list[Path]:
    """Write pages and pictures of these boards and of the files in `given` [default: folder]; return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write to {folder}: {error.strerror}; --out names another folder") from None
    around = Surroundings.load(given or folder)
    pages: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        pages[board.dataset, board.task].append(board)
    pictures: dict[Board, list[tuple[str, str]]] = defaultdict(list)
    links: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    overviews: dict[tuple[str, str], str] = {}
    written: list[Path] = []
    for (dataset, task), group in pages.items():
        home = folder / dataset
        slugs = {board: _slug(board, group) for board in group}
        for board in group:
            for name, words, draw in PICTURES:
                if path := draw(board, home / "pictures" / f"{slugs[board]}-{name}.svg"):
                    pictures[board].append((words, f"pictures/{path.name}"))
                    written.append(path)
        if path := plots.sample_efficiency(_drawn(group), home / "pictures" / f"{task}-efficiency.svg"):
            overviews[dataset, task] = f"pictures/{path.name}"
            written.append(path)
        known = [board for board in group if board.truth is not None and board.rows]
        if judged := [(board, rows) for board in known if (rows := calibrate(board, truth))]:
            curves = {}
            for board, rows in judged:
                path = home / "pictures" / f"{slugs[board]}-reliability.svg"
                if plots.reliability_curves(drawn_curves(board, rows), path):
                    curves[board] = f"pictures/{path.name}"
                    written.append(path)
            written.append(_write(home / f"{task}-calibration.md", calibration_page(judged, curves)))
            links[dataset, task].append(("calibration and thresholds", f"{task}-calibration.md"))
        if known:
            written.append(_write(home / f"{task}-subgroups.md", subgroup_page(most_compared(known), truth)))
            links[dataset, task].append(("subgroups", f"{task}-subgroups.md"))
        if tested := [each for board in group for each in boards_elsewhere(board)]:
            drawn = {}
            for number, each in enumerate(tested, 1):
                path = home / "pictures" / f"{slugs[each.board]}-elsewhere-{number}.svg"
                if plots.elsewhere(each, path):
                    drawn[each] = f"pictures/{path.name}"
                    written.append(path)
            written.append(_write(home / f"{task}-elsewhere.md", elsewhere_page(tested, drawn)))
            links[dataset, task].append(("tested elsewhere", f"{task}-elsewhere.md"))
    if around.reported:
        written.append(_write(folder / "LEDGER.md", ledger(boards, around.reported, around.claims)))
    return [*written, *write_pages(boards, folder, around, pictures, links, overviews)]


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
    several = len({one.fingerprint for one in group}) > 1
    listed = f"-{board.manifest[-8:]}" if board.manifest else ""
    return f"{board.task}-{board.fraction:g}{listed}" + (f"-{board.fingerprint[:8]}" if several else "")


def _drawn(group: Sequence[Board]) -> list[Board]:
    """Return the boards with the first fingerprint, without those whose training records are from a manifest."""
    return [board for board in group if board.fingerprint == group[0].fingerprint and not board.manifest]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path
