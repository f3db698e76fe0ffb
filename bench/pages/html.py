"""Write each board as one HTML file to play with: filter, sort, compare two rows. No server and no network is needed.

The numbers are those of the Markdown pages, from the same functions. The library for tables, DataTables, comes from the
Python package itables. html.css and html.js are our own. All of it is written into the page.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from bench.boards.resampling import NUM_REPLICATES
from bench.boards.rows import Board
from bench.boards.truth import Truth
from bench.errors import BenchError
from bench.evaluation.metrics import MIN_POSITIVES
from bench.files import write_at
from bench.pages.about_data import about, data_lines
from bench.pages.costs import leaves_out_features, terms
from bench.pages.elements import Html, element, embedded_json
from bench.pages.html_data import board_data
from bench.pages.html_misses import misses_section
from bench.pages.html_rows import has_rare_labels, page_of, share, table
from bench.pages.names import labels_note, not_installed

INDEX = "index.html"
LIBRARY = "html/dt_bundle.js"
"""File of the package itables with DataTables and jQuery, both under the MIT licence."""
FITTING = "pip install 'ptbxl-bench[html]' or itables==2.9.1"
THEME = """try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* a browser may forbid storage of files */ }"""
"""Set the reader's theme before the page is drawn."""

MISSES = "Which records does a row get wrong?"
MAX_BYTES, MAX_MISSES, SPARE = 3_000_000, 1_000_000, 4_000
"""Bytes: of a file at most; of the single records in it at most; and what the elements around these need."""

Pages = Mapping[tuple[str, str], Sequence[Board]]
"""Dataset and task -> boards of a page."""
Links = Mapping[tuple[str, str], str]
"""Dataset and task -> address of the page."""


def write_html(pages: Pages, folder: Path, truth: Truth, *, misses: bool = False) -> list[Path]:
    """Write <dataset>/<task>.html for each page, and index.html with the rows of all; return the paths.

    With `misses` a task's page also lists the records that each row gets wrong. Raises BenchError without the package
    itables, and with `misses` without the data set.
    """
    library = table_library()
    links = {name: "/".join(quote(part, safe="") for part in name) + ".html" for name in pages}
    written = [write_at(folder / INDEX, index_page([board for of in pages.values() for board in of], library, links))]
    links = {name: f"../{link}" for name, link in links.items()}
    for (dataset, task), boards in pages.items():
        text = task_page(boards, truth, library, links, misses=misses)
        written.append(write_at(folder / dataset / f"{task}.html", text))
    return written


def table_library() -> str:
    """Return the JavaScript of DataTables, which leaves what it exports in the global `tables`.

    Raises BenchError if itables is not installed, or if its file is of another form.
    """
    spec = importlib.util.find_spec("itables")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BenchError(f"an HTML page needs the package itables, which carries DataTables: {FITTING}")
    try:
        text = (Path(next(iter(places))) / LIBRARY).read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{LIBRARY} of itables cannot be read ({error.strerror}): {FITTING}") from None
    exports = re.findall(r"\bexport\s*\{([^}]*)\}", text)
    if len(exports) != 1:
        raise BenchError(f"{LIBRARY} of itables has {len(exports)} exports, expected 1: {FITTING}")
    named = [pair.partition(" as ")[::2] for pair in exports[0].split(",")]
    exposed = ",".join(f'"{outside or inside}":{inside}' for inside, outside in named)
    text = re.sub(r"\bexport\s*\{[^}]*\}", lambda _: f"window.tables={{{exposed}}}", text)
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def task_page(boards: Sequence[Board], truth: Truth, library: str, links: Links, *, misses: bool = False) -> str:
    """Return the page of the boards of a task, which compares rows also by label and by part of fold 10."""
    here = page_of(boards[0])
    title = f"{here[1]} on {here[0]}"
    data = [board_data(board, truth, links[here], len(boards)) for board in boards]
    notes = _notes(boards)
    notes.append("Task fingerprint: " + ", ".join(dict.fromkeys(board.fingerprint[:16] for board in boards)) + ".")
    head = _header(boards, title, [*about(boards), *data_lines(boards)], _nav(links, here))
    text = _document(title, library, head, _main(boards, notes), data)
    if not misses:
        return text
    missed = misses_section(boards, truth, min(MAX_MISSES, MAX_BYTES - SPARE - len(text.encode())))
    return _document(title, library, head, _main(boards, notes, missed), data)


def index_page(boards: Sequence[Board], library: str, links: Links) -> str:
    """Return the page with the rows of all tasks."""
    data = [board_data(board, None, links[page_of(board)], len(boards)) for board in boards]
    about_boards = f"{len(boards)} boards. A score compares only with scores of the same task and training records."
    head = _header(boards, "Leaderboards", [about_boards], _nav(links, None))
    return _document("Leaderboards", library, head, _main(boards, _notes(boards)), data)


def _document(title: str, library: str, header: Html, main: Html, boards: Sequence[Mapping[str, object]]) -> str:
    script, of_misses, style = (
        Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("html.js", "html_misses.js", "html.css")
    )
    own = script + of_misses
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy([THEME, library, own])),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · bench"),
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
        element("script", Html(THEME)),
    )
    body = element(
        "body",
        element("a", "Skip to the table", class_="skip", href="#rows"),
        header,
        main,
        element("script", embedded_json({"boards": boards}), type="application/json", id="data"),
        element("script", Html(library), type="module"),
        element("script", Html(own), type="module"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy under which only these scripts run and nothing is loaded from anywhere."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _nav(links: Links, here: tuple[str, str] | None) -> Html:
    """Return links to the pages of all tasks; `here` is the dataset and task of the page, None on the index."""
    several = len({dataset for dataset, _ in links}) > 1
    items = [
        element("a", "Overview", href=f"../{INDEX}" if here else INDEX, aria_current="page" if not here else False)
    ]
    for name, link in links.items():
        words = f"{name[1]} ({name[0]})" if several else name[1]
        items.append(element("a", words, href=link, aria_current="page" if name == here else False))
    return element("nav", *items, aria_label="Tasks")


def _header(boards: Sequence[Board], title: str, lines: Iterable[str], nav: Html) -> Html:
    theme = element("button", "theme", id="theme", type="button", class_="script")
    paragraphs = [element("p", line) for line in lines if line]
    if any(board.synthetic for board in boards):
        words = "Synthetic data: these numbers say that the machinery runs, and nothing about ECGs."
        paragraphs.insert(0, element("p", words, class_="warning"))
    return element("header", nav, element("div", element("h1", title), theme, class_="top"), *paragraphs)


def _main(boards: Sequence[Board], notes: Iterable[str], misses: Html | None = None) -> Html:
    how = "Open a method for its command and cost; tick two rows to compare them."
    views = element("div", id="views", class_="choices", role="group", aria_label="What the picture shows")
    rows = element("div", table(boards), class_="scroll", tabindex="0", role="region", aria_label="Table of rows")
    listed = element("ul", *(element("li", line) for line in dict.fromkeys(notes) if line))
    return element(
        "main",
        _filters(),
        element(
            "section",
            element("div", element("h2", "Picture", id="picture-title"), views, class_="title-line"),
            element("div", id="chart"),
            element("p", id="chart-note", class_="note"),
            class_="card script",
            id="picture",
            aria_labelledby="picture-title",
        ),
        element(
            "section",
            element("h2", "Rows", id="rows-title"),
            element("p", how, class_="note script"),
            element("noscript", element("p", "Without JavaScript this is the table alone.", class_="note")),
            rows,
            class_="card",
            aria_labelledby="rows-title",
        ),
        element("div", id="brief", hidden=True),
        element(
            "section",
            element("h2", "Compare two rows", id="pair-title"),
            element("div", id="pair"),
            class_="card script",
            id="compare",
            aria_labelledby="pair-title",
        ),
        *([element("section", element("h2", MISSES), misses, class_="card")] if misses else []),
        element("section", element("h2", "Notes"), listed, class_="card notes"),
        element("p", id="status", class_="hidden", role="status"),
    )


FILTERS = {
    "task": "task",
    "dataset": "data",
    "share": "trained on",
    "backbone": "backbone",
    "method": "method",
    "start": "starts from",
}
"""Filter of html.js -> its label."""


def _filters() -> Html:
    """Return the line of filters; html.js fills in what the rows have, and hides a filter with a single choice."""
    selects = [element("label", words, element("select", id=f"filter-{name}")) for name, words in FILTERS.items()]
    search = element("label", "search", element("input", type="search", id="search", placeholder="any words"))
    sort = element("label", "sort by", element("select", id="sort"), class_="narrow")
    reset = element("button", "Show all", id="reset", type="button")
    count = element("output", id="count")
    return element("form", *selects, search, sort, reset, count, class_="filters script", aria_label="Filters")


def _notes(boards: Sequence[Board]) -> list[str]:
    """Return what a reader must know of the numbers, and what was not run."""
    baselines = {board.plan.baseline or "" for board in boards if board.standing and board.standing.baseline}
    rows = [row for board in boards for row in board.rows]
    lines = [
        f"Frequent labels have at least {MIN_POSITIVES} positives and as many negatives in fold 10. All claims rest on "
        "them.",
        f"95 % intervals are over patients ({NUM_REPLICATES:,} replicates of fold 10) and runs. Rows of fewer than "
        "three runs (*, hollow marks) take the variation of runs from other rows, if enough of them have it.",
        "Rows that share a letter do not differ significantly; with many groups a row has the ranks of the rows from "
        "which it differs. Not to differ significantly does not make rows equal.",
        "The p is corrected by Holm within the pair's role: primary, family or exploratory. Only declared pairs "
        "(primary, family) support a claim. What is looked for among all pairs is exploratory.",
    ]
    if baselines:
        names = ", ".join(sorted(baselines))
        lines.append(f"Baseline: {names}. A method means that method on the same backbone and init.")
    if any(map(has_rare_labels, boards)):
        lines.append("† All labels: the number that the literature prints. Rare labels make it uncertain.")
    if any(map(leaves_out_features, rows)):
        lines.append("‡ Training time may lack the pass that computes a frozen backbone's features.")
    for board in boards:
        absent, where = not_installed(board), f"{board.task}, {share(board)}"
        lines += [labels_note(board.rows), *terms(board)]
        lines += [f"Not installed, so others cannot run it: {absent}."] if absent else []
        lines += [f"Not run ({where}): {r.row[2]} on {r.row[0]} ({r.row[1]}): {r.incompatible}" for r in board.declined]
    return lines
