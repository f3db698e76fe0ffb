"""Write the index of all boards, leaderboards/README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.boards.rows import Board
from bench.errors import BenchError
from bench.evaluation import metrics
from bench.evaluation.runs import MIN_RUNS
from bench.files import read_bytes
from bench.pages.conditions import SUBSET, few_draws
from bench.pages.groups import letters_of
from bench.pages.markdown import markdown_table
from bench.pages.names import AUROC, short_name
from bench.pages.spelling import spell
from bench.pages.surroundings import Surroundings

PROTOCOL = "PROTOCOL.md"

TITLE = "# Leaderboards"


def require_own_index(folder: Path) -> None:
    """Raise BenchError if the README.md of a folder is not an index of boards, because it would be replaced."""
    path = folder / "README.md"
    if path.is_file() and not read_bytes(path).startswith(TITLE.encode()):
        raise BenchError(f"{path} is another text and would be replaced by the boards' index; --out names a folder")


def index_page(
    boards: Sequence[Board], folder: Path, around: Surroundings | None = None, answered: Sequence[str] = ()
) -> str:
    """Return the index of boards whose pages are in `folder`; `answered` are the data sets with a page answer.md."""
    index = [TITLE, ""]
    if answered:
        where = ", ".join(f"[on {dataset}]({dataset}/answer.md)" for dataset in answered)
        index += [f"Which way of adapting is best? One answer a question, over all tasks: {where}.", ""]
    if around and around.reported:
        index += ["Each published number and claim beside the rows here: [LEDGER.md](LEDGER.md).", ""]
    if (folder / PROTOCOL).is_file():
        index += [f"The rules, in numbered sentences: [{PROTOCOL}]({PROTOCOL}).", ""]
    head = ["dataset", "task", "trained on", "first row", AUROC, "macro AUROC, all labels†", "not different", "rows"]
    entries = [_entry(board) for board in boards]
    index += markdown_table(head, entries, left=4) if entries else []
    index += [
        f"Frequent labels have at least {metrics.MIN_POSITIVES} positives and as many negatives in fold 10. † All "
        "labels: the number that the literature prints. First row: the one with the highest value. Not different: how "
        "many further rows do not differ significantly from it, of those that have three runs of the same draws and "
        "seeds. \\* The row has fewer than three runs, so nothing differs from it and it is not said to be best. "
        f"{SUBSET} The row has fewer than three draws of the share, so claims are about the subsets at hand. "
        "Scores of one line compare with no other line: tasks and training records differ.",
        "",
    ]
    return "\n".join(index)


def _entry(board: Board) -> list[str]:
    """Return the cells of a board: data set, task, training records, its first row and how many are like it."""
    where = [board.dataset, f"[{board.task}]({board.dataset}/{board.task}.md)"]
    if not board.rows:
        return [*where, board.title, *["–"] * 4, "0"]
    first, letters = board.rows[0], letters_of(board)
    alike = [
        row
        for row, own in zip(board.rows[1:], letters[1:], strict=True)
        if letters[0] & own and len(set(first.scored) & set(row.scored)) >= MIN_RUNS
    ]
    name = short_name(first) + "\\*" * first.few_runs + SUBSET * few_draws(first)
    scores = [spell(first.summaries[chosen]["auroc"]) for chosen in ("frequent", "all")]
    return [*where, board.title, name, *scores, "–" if first.few_runs else str(len(alike)), str(len(board.rows))]
