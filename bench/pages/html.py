"""Write each board as one HTML file to play with: filter, sort, compare two rows. No server and no network is needed.

The numbers are those of the Markdown pages, from the same functions. The library for tables, DataTables, comes from the
Python package itables. html.css and html.js are our own. All of it is written into the page.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.boards.comparisons import Comparison
from bench.boards.declared import EXPLORATORY, FAMILY, PRIMARY
from bench.boards.rows import NUM_REPLICATES, Board, Row, interval_of
from bench.boards.truth import Truth
from bench.errors import BenchError
from bench.evaluation.bootstrap import Interval, Summary
from bench.evaluation.metrics import MIN_POSITIVES, RANKING
from bench.files import write_whole
from bench.pages.conditions import condition_of
from bench.pages.costs import costs, leaves_out_features, minutes, terms_lines
from bench.pages.details import Details, Part, details, some_pairs
from bench.pages.elements import Html, element, embedded_json
from bench.pages.names import labels_note, not_installed, numbered, short_method, shown_backbone, shown_init
from bench.pages.page import (
    AP,
    AUROC,
    about,
    data_lines,
    num_labels,
    spell,
    spell_difference,
    spell_role,
    trained_on,
)
from bench.pages.pictures import CHANCE

MAX_BYTES = 3_000_000
"""Size of a page that mail and code hosts still show."""
MAX_INTERVALS = 40_000
"""Number of differences by label and part on a page: about 1 MB. Beyond, only declared pairs have them."""
MAX_PAIRS = 12_000
"""Number of pairs on a page. Beyond, only declared pairs and those with a baseline are there."""
INDEX = "index.html"
LIBRARY = "html/dt_bundle.js"
"""File of the package itables with DataTables and jQuery, both under the MIT licence."""

Pages = Mapping[tuple[str, str], Sequence[Board]]
"""Dataset and task -> boards of a page."""


@dataclass(frozen=True)
class Section:
    """A further section of a page, such as the records that a model misses."""

    title: str
    body: Html


def write_html(
    pages: Pages, folder: Path, truth: Truth, sections: Mapping[tuple[str, str], Sequence[Section]] = {}
) -> list[Path]:
    """Write <dataset>/<task>.html for each page, and index.html with the rows of all; return the paths.

    `sections` are added to the page of their dataset and task. Raises BenchError without the package itables.
    """
    library, written = table_library(), []
    for (dataset, task), boards in pages.items():
        links = {name: f"../{_address(name)}" for name in pages}
        text = page(boards, truth, library, links, f"../{INDEX}", sections.get((dataset, task), ()))
        written.append(_write(folder / dataset / f"{task}.html", text))
    every = [board for boards in pages.values() for board in boards]
    links = {name: _address(name) for name in pages}
    return [*written, _write(folder / INDEX, page(every, None, library, links))]


def _address(name: tuple[str, str]) -> str:
    return "/".join(quote(part, safe="") for part in name) + ".html"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def table_library() -> str:
    """Return the JavaScript of DataTables, which leaves its functions in the global `tables`.

    Raises BenchError if itables is not installed, or if its file is of another form.
    """
    spec = importlib.util.find_spec("itables")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BenchError("an HTML page needs the package itables, which carries DataTables: pip install itables")
    try:
        text = (Path(next(iter(places))) / LIBRARY).read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"itables has no {LIBRARY} ({error.strerror}): pip install itables==2.9.1") from None
    exports = re.findall(r"export\s*\{([^}]*)\}", text)
    if len(exports) != 1:
        raise BenchError(f"{LIBRARY} of itables has {len(exports)} exports, expected 1: pip install itables==2.9.1")
    named = [pair.partition(" as ")[::2] for pair in exports[0].split(",")]
    exposed = ",".join(f'"{outside or inside}":{inside}' for inside, outside in named)
    text = re.sub(r"export\s*\{[^}]*\}", lambda _: f"window.tables={{{exposed}}}", text)
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def page(
    boards: Sequence[Board],
    truth: Truth | None,
    library: str,
    links: Mapping[tuple[str, str], str],
    index: str = "",
    sections: Iterable[Section] = (),
) -> str:
    """Return the page of the boards of one task; with `truth` None the page of several, without labels and parts.

    `links` are the addresses of all tasks' pages, `index` is that of the page with all.
    """
    first, is_index = boards[0], truth is None
    title = "All leaderboards" if is_index else f"{first.task} on {first.dataset}"
    shares = len({_share(board) for board in boards}) > 1
    columns = _columns(boards, is_index, shares)
    script, style = (Path(__file__).with_name(f"html.{ending}").read_text(encoding="utf-8") for ending in ("js", "css"))
    data = {"boards": [_data(board, truth, links, len(boards)) for board in boards]}
    scripts = [Html(THEME), Html(library), Html(script)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · leaderboard"),
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
        element("script", scripts[0]),
    )
    body = element(
        "body",
        element("a", "Skip to the table", class_="skip", href="#rows"),
        _header(boards, title, links, index, is_index),
        element("main", *_main(boards, columns, sections, is_index)),
        element("script", embedded_json(data), type="application/json", id="data"),
        element("script", scripts[1], type="module"),
        element("script", scripts[2], type="module"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


THEME = """try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* a browser may forbid storage of files */ }"""
"""Set the reader's theme before the page is drawn."""


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy under which only these scripts run and nothing is loaded from anywhere."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _share(board: Board) -> str:
    """Return what the rows of a board were trained on, in few words."""
    return f"{100 * board.fraction:.3g} %" + (f", {board.manifest}" if board.manifest else "")


def _header(
    boards: Sequence[Board], title: str, links: Mapping[tuple[str, str], str], index: str, is_index: bool
) -> Html:
    here = None if is_index else (boards[0].dataset, boards[0].task)
    several = len({dataset for dataset, _ in links}) > 1
    pages = [
        element(
            "a",
            f"{task} ({dataset})" if several else task,
            href=link,
            aria_current="page" * ((dataset, task) == here) or False,
        )
        for (dataset, task), link in links.items()
    ]
    pages = [element("a", "All", href=index or "#rows", aria_current="page" if is_index else False), *pages]
    lines = [] if is_index else [*filter(None, about(boards)), *filter(None, data_lines(boards))]
    if is_index:
        lines = [f"{len(boards)} boards. A score compares only with scores of the same task and training records."]
    synthetic = "Synthetic data: these numbers say that the machinery runs, and nothing about ECGs."
    return element(
        "header",
        element(
            "div",
            element("nav", *pages, aria_label="Tasks"),
            element("button", "Theme: as the system", id="theme", type="button"),
            class_="top",
        ),
        element("h1", title),
        *[element("p", line) for line in lines],
        *([element("p", synthetic, class_="warning")] if any(board.synthetic for board in boards) else []),
    )


def _main(boards: Sequence[Board], columns: Sequence[str], sections: Iterable[Section], is_index: bool) -> list[Html]:
    return [
        _filters(),
        element(
            "section",
            element(
                "div",
                element("h2", "Picture", id="picture-title"),
                element("div", id="views", class_="choices", role="group", aria_label="What the picture shows"),
                class_="title-line",
            ),
            element("div", id="chart"),
            element("p", id="chart-note", class_="note"),
            aria_labelledby="picture-title",
            class_="card",
            id="picture",
            hidden=True,
        ),
        element(
            "section",
            element("h2", "Rows", id="rows-title"),
            element(
                "p",
                "Open a method for its command and cost; tick two rows to compare them.",
                class_="note script",
            ),
            element("noscript", element("p", "Without JavaScript this is the table alone.", class_="note")),
            element(
                "div",
                _table(boards, columns),
                class_="scroll",
                tabindex="0",
                role="region",
                aria_labelledby="rows-title",
            ),
            class_="card",
            aria_labelledby="rows-title",
        ),
        element("div", id="brief", hidden=True),
        element(
            "section",
            element("h2", "Two rows", id="pair-title"),
            element("div", id="pair"),
            aria_labelledby="pair-title",
            class_="card script",
            id="compare",
        ),
        *[element("section", element("h2", each.title), each.body, class_="card") for each in sections],
        element("section", element("h2", "Notes"), *_notes(boards, is_index), class_="card notes"),
        element("p", id="status", class_="hidden", role="status"),
    ]


def _filters() -> Html:
    """Return the line of filters; html.js fills in what the rows have."""
    names = ("task", "dataset", "share", "backbone", "method", "start")
    words = {"share": "trained on", "start": "starts from"}
    selects = [
        element("label", words.get(name, name), element("select", id=f"filter-{name}"), hidden=True) for name in names
    ]
    search = element("label", "search", element("input", type="search", id="search", placeholder="any words"))
    sort = element("label", "sort by", element("select", id="sort"), class_="narrow")
    reset = element("button", "Show all", id="reset", type="button")
    count = element("output", id="count")
    return element("form", *selects, search, sort, reset, count, class_="filters script", aria_label="Filters")


COLUMNS = {
    "task": "task",
    "share": "trained on",
    "rank": "rank",
    "method": "method",
    "backbone": "backbone",
    "auroc": AUROC,
    "difference": "Δ baseline",
    "ap": AP,
    "all": "AUROC, all labels†",
    "minutes": "minutes",
    "runs": "runs",
}
"""Column -> head."""
EXPLAINED = {
    "rank": "Place by macro AUROC; in brackets the places in 95 % of replicates; letters: rows that share one do not "
    "differ significantly",
    "auroc": "Mean over runs and frequent labels, with the 95 % interval over patients and runs",
    "difference": "Row minus its baseline, with the p corrected by Holm within the pair's role",
    "ap": "Average precision, mean over runs and frequent labels",
    "all": "For comparison with the literature",
    "minutes": "Training time of a run",
    "runs": "Seeds and draws; * fewer than three count",
}


def _columns(boards: Sequence[Board], is_index: bool, shares: bool) -> list[str]:
    left_out = set() if is_index else {"task"}
    left_out |= set() if shares else {"share"}
    if not any(board.standing and board.standing.baseline for board in boards):
        left_out.add("difference")
    if not any(map(_narrow, boards)):
        left_out.add("all")
    return [column for column in COLUMNS if column not in left_out]


def _table(boards: Sequence[Board], columns: Sequence[str]) -> Html:
    heads = [element("th", element("span", "compare", class_="hidden"), scope="col", class_="pick")]
    heads += [
        element("th", COLUMNS[name], scope="col", class_=f"of-{name}", title=EXPLAINED.get(name, False))
        for name in columns
    ]
    rows = [_row(board, place, columns) for board in boards for place in range(len(board.rows))]
    return element(
        "table",
        element("caption", "Rows of the boards, best first", class_="hidden"),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        id="rows",
    )


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, a second line, and what it is sorted by."""

    text: str
    below: str = ""
    order: float | str = ""


def _row(board: Board, place: int, columns: Sequence[str]) -> Html:
    row = board.rows[place]
    cells, name = _cells(board, place), numbered(board)[row.name]
    pick = element("input", type="checkbox", aria_label=f"Compare {name}", disabled=board.standing is None)
    parts = [element("td", pick, class_="pick script")]
    for column in columns:
        cell = cells[column]
        content = [element("span", cell.text, class_="text")]
        if column == "method":
            content = [element("button", cell.text, type="button", class_="open", aria_expanded="false")]
        if column == "auroc":
            content.append(_bar(interval_of(row.summaries["frequent"]["auroc"]), row.few_runs))
        content += [element("small", cell.below)] if cell.below else []
        kind = "th" if column == "method" else "td"
        parts.append(
            element(
                kind,
                *content,
                class_=f"of-{column}",
                data_order=str(cell.order),
                **({"scope": "row"} if kind == "th" else {}),
            )
        )
    return element("tr", *parts, data_key=_key(board, row))


def _bar(interval: Interval, is_hollow: bool) -> Html:
    """Return a mark with its interval, which html.css draws on the scale that html.js sets for the shown rows."""
    if math.isnan(interval.value):
        return Html("")
    low, high = (interval.value if math.isnan(bound) else bound for bound in (interval.low, interval.high))
    places = f"--value:{interval.value:.4f};--low:{low:.4f};--high:{high:.4f}"
    return element(
        "span",
        element("i"),
        element("b", class_="hollow" if is_hollow else False),
        class_="bar",
        style=places,
        aria_hidden="true",
    )


def _cells(board: Board, place: int) -> dict[str, Cell]:
    """Return column -> cell of a row."""
    row, standing = board.rows[place], board.standing
    rank, letters = str(place + 1), ""
    if standing:
        low, high = standing.ranks[row.name]
        rank, letters = f"{rank} ({low}–{high})" if low < high else rank, standing.letters[row.name] or "–"
    against = standing.baseline.get(row.name) if standing else None
    difference = Cell("baseline" if standing and row.name in standing.baselines else "–", order=-9)
    if against:
        difference = Cell(
            spell_difference(against.differences["auroc"]),
            f"p {_equals(spell_role(against))}",
            against.differences["auroc"].interval.value,
        )
    of_cost = costs(row, tuned=False)
    init = "scores made elsewhere" if row.runs[0].external else f"from {shown_init(row)}"
    frequent, every = row.summaries["frequent"], row.summaries["all"]
    trials = f"best of {row.num_trials} settings" if row.num_trials else ""
    return {
        "task": Cell(board.task, board.dataset, board.task),
        "share": Cell(_share(board), order=board.fraction),
        "rank": Cell(rank, letters, place + 1),
        "method": Cell(short_method(row), trials, row.method),
        "backbone": Cell(shown_backbone(row), init, row.backbone),
        "auroc": _scored(frequent["auroc"]),
        "difference": difference,
        "ap": _scored(frequent["average_precision"]),
        "all": _scored(every["auroc"]),
        "minutes": Cell(of_cost["minutes"].partition(" (")[0], order=_minutes(row) or -1),
        "runs": Cell(str(len(row.runs)) + "*" * row.few_runs, order=len(row.runs)),
    }


def _scored(summary: Summary | Interval) -> Cell:
    value, _, bounds = spell(summary).partition(" ")
    number = interval_of(summary).value
    return Cell(value, bounds, -1 if math.isnan(number) else number)


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _minutes(row: Row) -> float | None:
    """Return the training minutes of a run; None for scores made elsewhere."""
    return None if row.runs[0].external else max(minutes(row), 1e-3)


def _board_key(board: Board) -> str:
    return _digest(f"{board.dataset}|{board.task}|{board.fingerprint}|{board.fraction!r}|{board.manifest}")


def _key(board: Board, row: Row) -> str:
    """Return what names a row in links to a page: it stays the same when rows are added."""
    return _digest(f"{_board_key(board)}|{row.name}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _data(board: Board, truth: Truth | None, links: Mapping[tuple[str, str], str], num_boards: int) -> dict[str, Any]:
    """Return what html.js needs of a board."""
    pairs = some_pairs(board, MAX_PAIRS // num_boards) if board.standing else []
    people = truth.people(board.truth) if truth and board.truth else None
    known = Details() if people is None else details(board, people, MAX_INTERVALS // num_boards)
    groups = [known.labels, known.parts]
    rows, verdicts = {row.name: place for place, row in enumerate(board.rows)}, dict[str, int]()
    complete = known.complete and len(pairs) == len(board.standing.pairs if board.standing else ())
    return {
        "key": _board_key(board),
        "task": board.task,
        "dataset": board.dataset,
        "share": _share(board),
        "fraction": board.fraction,
        "page": links[board.dataset, board.task] if truth is None else "",
        "margin": board.plan.margin,
        "missing": "" if board.standing else "The labels were not at hand, so rows of this board are not compared.",
        "partial": "" if complete else "This board has many pairs: only declared ones are shown in full.",
        "groups": [[[part.name, part.facts] for part in parts] for parts in groups],
        "rows": [_row_data(board, place, groups) for place in range(len(board.rows))],
        "pairs": [_pair_data(board, pair, rows, verdicts, groups) for pair in pairs],
        "verdicts": list(verdicts),
        "example": next((number for number, pair in enumerate(pairs) if pair.role == PRIMARY), 0),
    }


def _pair_data(
    board: Board,
    pair: Comparison,
    rows: Mapping[str, int],
    verdicts: dict[str, int],
    groups: Sequence[Sequence[Part]],
) -> list[Any]:
    """Return a pair as html.js reads it; its verdict is added to `verdicts`, text -> number."""
    names = pair.first, pair.second
    return [
        rows[pair.first],
        rows[pair.second],
        *(_signed(pair.differences[metric].interval) for metric in RANKING),
        f"p {_equals(spell_role(pair))}",
        round(pair.resolvable, 4),
        verdicts.setdefault(verdict(board, pair), len(verdicts)),
        pair.num_pairs,
        *([_signed(part.differences[names]) for part in parts if names in part.differences] for parts in groups),
    ]


def _signed(interval: Interval) -> list[float]:
    """Return a difference with its bounds, rounded as `spell_difference` prints them."""
    return [round(interval.value, 4), round(interval.low, 3), round(interval.high, 3)]


def _row_data(board: Board, place: int, groups: Sequence[Sequence[Part]]) -> dict[str, Any]:
    row = board.rows[place]
    interval, named = interval_of(row.summaries["frequent"]["auroc"]), numbered(board)[row.name]
    return {
        "key": _key(board, row),
        "place": place + 1,
        "name": named,
        "series": row.name,
        "method": re.split(r"[(,]", short_method(row), maxsplit=1)[0],
        "backbone": shown_backbone(row),
        "start": "–" if row.runs[0].external else shown_init(row),
        "auroc": [None if math.isnan(x) else round(x, 4) for x in (interval.value, interval.low, interval.high)],
        "minutes": _minutes(row),
        "few": row.few_runs,
        "partial": leaves_out_features(row),
        "constant": row.score == CHANCE,
        "command": row.runs[0].cell["command"] or "",
        "facts": _facts(board, place),
        "scores": [[round(part.scores[row.name], 4) for part in parts] for parts in groups],
    }


def _facts(board: Board, place: int) -> list[list[str]]:
    """Return head and text of each fact of a row that its fold shows."""
    row, cells = board.rows[place], _cells(board, place)
    facts = [["row", row.name]]
    if trained := trained_on(board):
        facts.append(["trained on", f"{_share(board)}: {trained}"])
    for column in ("auroc", "difference", "ap", "all"):
        cell = cells[column]
        facts.append([COLUMNS[column], f"{cell.text} {cell.below}".strip()])
    runs = [f"draw {draw}, seed {seed}" for draw, seed in (run.place for run in row.runs)]
    facts.append(["runs", "; ".join(runs)])
    facts += [
        [head, text.replace("`", "")] for head, text in costs(row, tuned=row.num_trials > 0).items() if text != "–"
    ]
    return facts


def verdict(board: Board, pair: Comparison) -> str:
    """Return what may be said of a pair of rows, by section 9 of leaderboards/PROTOCOL.md."""
    where = condition_of(pair, board.rows)
    if pair.few_pairs:
        return (
            "Fewer than three pairs of runs: the p is about these trained models and not about their methods; it is "
            "not corrected. It supports no claim."
        )
    if pair.role == EXPLORATORY:
        words = (
            f"Exploratory: this pair was not declared, so it supports no claim. Its p is corrected over all "
            f"{pair.family_size} exploratory pairs of the board; a new row changes it."
        )
    else:
        role = "a member of the family" if pair.role == FAMILY else "a primary contrast"
        words = f"Declared as {role}. "
        words += (
            f"The rows differ significantly{where and ' '}{where}."
            if pair.claimed
            else "The difference is not significant, which does not make the rows equal."
        )
    if pair.practically_equal:
        words += f" Practically equal: the whole interval lies within ±{board.plan.margin:g}."
    return words


def _notes(boards: Sequence[Board], is_index: bool) -> list[Html]:
    """Return what a reader must know of the numbers, and what was not run."""
    baselines = {board.plan.baseline or "" for board in boards if board.standing and board.standing.baseline}
    lines = [
        f"Frequent labels have at least {MIN_POSITIVES} positives and as many negatives in fold 10. All claims rest on "
        "them.",
        f"95 % intervals are over patients ({NUM_REPLICATES:,} replicates of fold 10) and runs; with fewer than three "
        "runs (*, hollow marks) over patients alone.",
        "Rows that share a letter do not differ significantly. That does not make them equal.",
        "The p is corrected by Holm within the pair's role: primary, family or exploratory. Only declared pairs "
        "(primary, family) support a claim. What is looked for among all pairs is exploratory.",
        f"Baseline: {', '.join(sorted(baselines))}; a method means that method on the same backbone and init."
        if baselines
        else "",
    ]
    if any(map(_narrow, boards)):
        lines.append("† All labels: the number that the literature prints. Rare labels make it uncertain.")
    if any(leaves_out_features(row) for board in boards for row in board.rows):
        lines.append("‡ Training time may lack the pass that computes a frozen backbone's features.")
    for board in boards:
        absent = not_installed(board)
        lines += [labels_note(board.rows), *(line.removeprefix("- ") for line in terms_lines(board))]
        lines += [f"Not installed, so others cannot run it: {absent}."] if absent else []
        where = f"{board.task}, {_share(board)}"
        lines += [f"Not run ({where}): {r.row[2]} on {r.row[0]} ({r.row[1]}): {r.incompatible}" for r in board.declined]
    if not is_index:
        lines.append("Task fingerprint: " + ", ".join(dict.fromkeys(board.fingerprint[:16] for board in boards)))
    return [element("ul", *(element("li", line) for line in dict.fromkeys(lines) if line))]


def _narrow(board: Board) -> bool:
    """Return whether a row has labels that are not frequent."""
    return any(num_labels(row, "all") != num_labels(row, "frequent") for row in board.rows)
