"""Boards as HTML: the numbers of the Markdown pages, names that are hostile, and a real browser where there is one."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.boards import resampling
from bench.boards.comparisons import Comparison
from bench.boards.declared import BoardPlan
from bench.boards.rows import Board, by_page, make_boards
from bench.data.tasks import LabelTable
from bench.errors import BenchError
from bench.evaluation.bootstrap import Interval
from bench.evaluation.predictions import Predictions
from bench.evaluation.scores import score_fold
from bench.pages import html_data
from bench.pages.html import FITTING, LIBRARY, table_library, write_html
from bench.pages.html_data import MAX_INTERVALS, MAX_PAIRS, verdict
from bench.pages.markdown import cells_of
from bench.pages.page import page
from bench.pages.spelling import spell_difference
from bench.results.result import Result, write_result
from bench.verbs import Leaderboard, leaderboard

HARD = '</script><img src=x onerror="window.hacked=1">\'&amp;<!--'
"""A name that becomes code where it is not escaped."""
SIZE = 150
LABELS = ("MI", HARD, "RARE")
MAX_BYTES = 3_000_000
PLAN = BoardPlan("ft", family=("lp",), primary="lpft-sd minus ft", labels={"own:1": f"start {HARD}"})


def truth_table() -> LabelTable:
    random = np.random.default_rng(0)
    y_true = random.random((SIZE, 3)) < [0.3, 0.5, 0]
    y_true[:5, 2] = True
    patients = np.sort(random.integers(100, size=SIZE))
    return LabelTable("superdiag", LABELS, np.arange(SIZE), patients, np.full(SIZE, 10), y_true)


TRUTH = truth_table()


class Truth:
    """The people behind the records; a device has a hostile name."""

    def people(self, table: LabelTable) -> pd.DataFrame:
        device = np.where(table.ecg_id < 120, f"CS {HARD}", "rare one")
        ages = np.random.default_rng(0).integers(20, 95, SIZE)
        return pd.DataFrame({"age": ages, "sex": table.ecg_id % 2, "device": device})


def write(folder: Path, method: str, quality: float, seed: int, **cell: Any) -> Result:
    """Write a finished run by hand. `load_result` would refuse its names; pages are safe without that."""
    noise = np.random.default_rng([seed, int(10 * quality)]).normal(size=TRUTH.y_true.shape)
    logits = (quality * TRUTH.y_true + noise).astype(np.float32)
    of_cell = {"task": "superdiag", "arch": "net", "method": method, "fraction": 1.0, "draw": 0, "seed": seed}
    of_cell |= {"source_rate": None, "precision": "float32", "command": f"bench run --method '{method}' {HARD}", **cell}
    phase = {"name": "finetune", "seconds": 60.0 * (1 + quality), "trainable_parameters": 1234, "selection": "best"}
    document: dict[str, Any] = {
        "digest": f"{method}-{of_cell['arch']}-{of_cell['fraction']}-{seed}",
        "stage": "test",
        "cell": of_cell,
        "dataset": {"name": "ptb-xl-1.0.3", "synthetic": False, "num_records": 21799},
        "task": {"name": "superdiag", "fingerprint": TRUTH.fingerprint, "labels": list(LABELS)},
        "init": {"name": "own:1" if of_cell["arch"] == "net" else "random"},
        "incompatible": f"has no blocks {HARD}" if method == "declined" else None,
        "signals": {},
        "split": {"train_records": 100},
        "training": [phase | {"val_macro_auroc": [0.8]}],
        "metrics": {"fold_10": score_fold(TRUTH.y_true, logits, LABELS, TRUTH.patient_id, num_replicates=50)},
    }
    name = hashlib.sha256(document["digest"].encode()).hexdigest()[:12]
    (folder / name).mkdir()
    write_result(folder / name, document, {10: Predictions(TRUTH.ecg_id, LABELS, logits)})
    return Result(folder / name, document)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Board]:
    """Two boards: four rows of three seeds and one of a single seed on all records, two rows on 10 %."""
    folder = tmp_path_factory.mktemp("runs")
    methods = [
        ("ft", 1.0, {}),
        ("lpft-sd", 2.0, {}),
        (f"lp(note={HARD!r})", 1.5, {}),
        ("ft", 0.8, {"arch": f"b {HARD}"}),
    ]
    methods += [("ft", 0.5, {"fraction": 0.1}), ("lpft-sd", 0.9, {"fraction": 0.1})]
    results = [write(folder, method, quality, seed, **cell) for seed in range(3) for method, quality, cell in methods]
    results += [write(folder, "scratch", 0.7, 0), write(folder, "declined", 0.7, 0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "NUM_REPLICATES", 50)
        return make_boards(results, lambda result: TRUTH, lambda dataset, task: PLAN)


@pytest.fixture(scope="module")
def site(made: list[Board], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the written pages."""
    folder = tmp_path_factory.mktemp("site")
    write_html(by_page(made), folder, Truth())  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def text(site: Path) -> str:
    return (site / "ptb-xl-1.0.3/superdiag.html").read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Elements with their attributes, the text of each script, and the texts of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.lasttag == "script":
            self.scripts[-1] += data
        self.texts.append(data)


def data_of(text: str) -> list[dict[str, Any]]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    given: list[dict[str, Any]] = json.loads(found)["boards"]
    return given


def test_a_page_is_one_file_that_loads_nothing(site: Path, text: str) -> None:
    assert {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} == {
        "index.html",
        "ptb-xl-1.0.3/superdiag.html",
    }
    for page_text in (text, (site / "index.html").read_text(encoding="utf-8")):
        parsed = Parsed(page_text)
        assert not [attributes for _, attributes in parsed.elements if "src" in attributes]
        links = {attributes["href"] for _, attributes in parsed.elements if attributes.get("href")}
        assert not [link for link in links if re.match(r"[a-z]+:", str(link)) and link != "data:,"]
        policy = next(attributes["content"] for tag, attributes in parsed.elements if "http-equiv" in attributes)
        assert "default-src 'none'" in str(policy)
        code = re.findall(r"<script(?: type=\"module\")?>(.*?)</script>", page_text, flags=re.DOTALL)
        assert len(code) == 3
        for each in code:
            assert base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() in str(policy)
        assert len(page_text.encode()) < MAX_BYTES


def test_every_link_leads_to_a_page(site: Path) -> None:
    for path in site.rglob("*.html"):
        for _, attributes in Parsed(path.read_text(encoding="utf-8")).elements:
            link = attributes.get("href") or ""
            if link.endswith(".html"):
                assert (path.parent / link).resolve().is_file(), link


def test_names_of_results_are_text_and_never_code(text: str, made: list[Board]) -> None:
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.elements]

    assert tags.count("script") == 4
    assert "img" not in tags
    assert not [key for _, attributes in parsed.elements for key in attributes if key.startswith("on")]
    assert HARD not in text
    shown = "\n".join(parsed.texts)
    for hard in (f"b {HARD}", f"from start {HARD}", f"has no blocks {HARD}"):
        assert hard in shown
    whole = data_of(text)[0]
    assert [row["series"] for row in whole["rows"]] == [row.name for row in made[0].rows]
    assert {row["command"] for row in whole["rows"]} == {row.runs[0].cell["command"] for row in made[0].rows}
    assert [name for name, _ in whole["groups"][0]] == ["MI", HARD]
    assert f"device CS {HARD}" in [name for name, _ in whole["groups"][1]]


def test_the_table_has_the_numbers_of_the_markdown_page(text: str, made: list[Board]) -> None:
    rows = []
    for board in made:
        lines = [cells_of(line) for line in page([board]).splitlines() if line.startswith("|")]
        head = next(cells for cells in lines if "Δ baseline" in cells)
        rows += [dict(zip(head, cells, strict=True)) for cells in lines[2:] if len(cells) == len(head)][
            : len(board.rows)
        ]
    table = text[text.index("<tbody") : text.index("</tbody>")].split("<tr ")[1:]
    assert len(rows) == len(table) == sum(len(board.rows) for board in made) == 7

    for cells, line in zip(rows, table, strict=True):
        shown = {
            column: re.sub(r"<[^>]*>", "", content).strip().replace("&lt;", "<")
            for column, content in re.findall(r'class="of-(\w+)"[^>]*>(.*?)</t[dh]>', line, flags=re.DOTALL)
        }
        assert shown["rank"].split()[0] == cells["rank"].split()[0]
        assert shown["auroc"] == cells["macro AUROC, frequent labels"]
        assert shown["ap"] == cells["macro AP, frequent labels"]
        assert shown["all"] == cells["AUROC, all labels†"]
        assert shown["runs"] == cells["runs"]
        difference, p = cells["Δ baseline"], cells["p, Holm"]
        equals = "" if p.startswith("<") else "= "
        assert shown["difference"] == (f"{difference} p {equals}{p}" if p else difference)


def test_pairs_are_those_of_the_board(text: str, made: list[Board]) -> None:
    for board, given in zip(made, data_of(text), strict=True):
        assert board.standing is not None
        assert len(given["pairs"]) == len(board.standing.pairs) > 0
        for pair, (first, second, auroc, precision, p, resolvable, words, num, labels, parts) in zip(
            board.standing.pairs, given["pairs"], strict=True
        ):
            assert (board.rows[first].name, board.rows[second].name) == (pair.first, pair.second)
            for metric, (value, low, high) in (("auroc", auroc), ("average_precision", precision)):
                printed = f"{value:+.4f} ({low:+.3f} to {high:+.3f})".replace("-", "−")
                assert printed == spell_difference(pair.differences[metric])
            assert f"{pair.p_adjusted:.3f}" in p or p.startswith("p <")
            assert resolvable == pytest.approx(pair.resolvable, abs=5e-5)
            assert given["verdicts"][words] == verdict(board, pair)
            assert num == pair.num_pairs
            assert len(labels) == 2
            assert len(parts) == len(given["groups"][1]) > 3


def test_what_is_said_of_a_pair_follows_its_role(made: list[Board]) -> None:
    assert made[0].standing is not None
    said: dict[tuple[str, bool], Comparison] = {}
    for pair in made[0].standing.pairs:
        said[pair.role, pair.few_pairs] = pair

    assert verdict(made[0], said["primary", False]) == (
        "Declared as a primary contrast. The rows differ significantly from these weights."
    )
    assert verdict(made[0], said["family", False]).startswith("Declared as a member of the family. ")
    exploratory = verdict(made[0], said["exploratory", False])
    assert exploratory.startswith("Exploratory: this pair was not declared, so it supports no claim.")
    assert "over all 4 exploratory pairs" in exploratory
    assert verdict(made[0], said["exploratory", True]).startswith("Fewer than three pairs of runs")
    part = next(pair for pair in made[1].standing.pairs if pair.role == "primary")  # type: ignore[union-attr]
    assert "on this subset of 100 records from these weights" in verdict(made[1], part) or not part.claimed


def test_boards_without_labels_have_no_pairs(made: list[Board], tmp_path: Path) -> None:
    results = [run for row in made[0].rows for run in row.runs]
    copied = make_boards(results, lambda result: None)
    write_html(by_page(copied), tmp_path, Truth())  # type: ignore[arg-type]
    (board,) = data_of((tmp_path / "ptb-xl-1.0.3/superdiag.html").read_text(encoding="utf-8"))

    assert board["pairs"] == []
    assert "labels were not at hand" in board["missing"]


def test_rows_of_ones_own_are_marked_among_published_ones(made: list[Board], tmp_path: Path) -> None:
    results = [replace(run, published=row.method != "ft") for row in made[0].rows for run in row.runs]
    write_html(by_page(make_boards(results, lambda result: None)), tmp_path, Truth())  # type: ignore[arg-type]
    table = (tmp_path / "ptb-xl-1.0.3/superdiag.html").read_text(encoding="utf-8").partition("<tbody")[2]
    marked = ["not published" in line for line in table.partition("</tbody>")[0].split("<tr ")[1:]]

    assert marked == [row.method == "ft" for row in made[0].rows]
    assert sum(marked) == 2


def test_large_boards_stay_below_the_limit(text: str, made: list[Board], monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a pair and of an interval, times as many as a page may have, with the library and 200 rows."""
    board = data_of(text)[0]
    sizes = [len(json.dumps(pair[:8], separators=(",", ":"))) for pair in board["pairs"]]
    intervals = [len(json.dumps(each)) for pair in board["pairs"] for group in pair[8:] for each in group]
    rows = len(text[text.index("<tbody") : text.index("</tbody>")]) + len(json.dumps(board["rows"], ensure_ascii=False))
    rows /= sum(len(each.rows) for each in made)
    own = len(text.encode()) - len(json.dumps(data_of(text)))
    assert own + MAX_PAIRS * max(sizes) + MAX_INTERVALS * np.mean(intervals) + 126 * rows < MAX_BYTES

    monkeypatch.setattr(html_data, "MAX_PAIRS", 6)
    monkeypatch.setattr(html_data, "MAX_INTERVALS", 30)
    small = html_data.board_data(made[0], Truth(), "", 1)  # type: ignore[arg-type]
    assert len(small["pairs"]) <= 6
    assert sum(len(group) for pair in small["pairs"] for group in pair[8:]) <= 30
    assert small["partial"]


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "itables", None)
    with pytest.raises(BenchError, match=r"needs the package itables.*pip install"):
        table_library()
    with pytest.raises(BenchError, match="itables"):
        write_html({}, tmp_path, Truth())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_another_form_of_the_library_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "itables", raising=False)
    (tmp_path / "itables/html").mkdir(parents=True)
    (tmp_path / "itables/__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BenchError, match=r"cannot be read.*itables=="):
        table_library()
    (tmp_path / "itables" / LIBRARY).write_text("var a=1;")
    with pytest.raises(BenchError, match="0 exports, expected 1"):
        table_library()
    (tmp_path / "itables" / LIBRARY).write_text("var a='</script><!--';export{a as default,b}")
    assert table_library() == 'var a=\'<\\/script><\\!--\';window.tables={"default":a,"b":b}'


def test_the_command_says_what_is_missing_before_it_computes(tmp_path: Path) -> None:
    code = "import sys; sys.modules['itables'] = None; from bench.cli import main; main()"
    words = ["leaderboard", "--runs", str(tmp_path / "none"), "--html"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "needs the package itables" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_formats_name_html_as_well(made: list[Board], site: Path, tmp_path: Path) -> None:
    written = Leaderboard(made, Truth()).write(tmp_path, "html")  # type: ignore[arg-type]

    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["index.html", "ptb-xl-1.0.3/superdiag.html"]
    assert written[0].read_bytes() == (site / "index.html").read_bytes(), "equal boards give equal bytes"


@pytest.mark.slow
@pytest.mark.ptbxl
def test_published_boards_fit_and_have_the_numbers_of_their_pages(ptbxl: Path, tmp_path: Path) -> None:
    folder = Path(__file__).parent.parent / "leaderboards"
    written = leaderboard(published=True, data=ptbxl, boards=folder).write(tmp_path, "html")
    assert len(written) > 3
    for path in written:
        assert path.stat().st_size < MAX_BYTES
        if path.name != "index.html":
            markdown = (folder / path.relative_to(tmp_path).with_suffix(".md")).read_text(encoding="utf-8")
            shown = path.read_text(encoding="utf-8")
            differences = re.findall(r"[+−]0\.\d{4} \([+−]0\.\d{3} to [+−]0\.\d{3}\)", shown[: shown.index("</tbody>")])
            assert all(difference in markdown for difference in differences)
            assert len(differences) == len(re.findall(r"\| [+−]0\.\d{4} \(", markdown))


def test_the_hint_names_the_version_that_is_tested() -> None:
    pinned = (Path(__file__).parent.parent / "constraints.txt").read_text().splitlines()
    assert re.findall(r"itables==[\d.]+", FITTING) == [line for line in pinned if line.startswith("itables==")]


# What follows runs in a browser: `python -m playwright install chromium`, or Debian's package chromium.
Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, site: Path) -> Iterator[Open]:
    """Open a page at a width and in a theme. At the end, nothing was loaded, and no script failed or was planted."""
    faults, contexts = list[str](), []

    def open_page(name: str = "ptb-xl-1.0.3/superdiag.html", width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        shown = context.new_page()
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        shown.on(
            "request", lambda sent: faults.append(sent.url) if not sent.url.startswith(("file:", "data:")) else None
        )
        shown.goto((site / name.partition("#")[0]).as_uri() + "#" + name.partition("#")[2])
        if options.get("java_script_enabled", True):
            shown.wait_for_selector("html.ready")
        return shown

    yield open_page
    for context in contexts:
        for shown in context.pages:
            if shown.evaluate("typeof window.hacked") != "undefined":
                faults.append("a name became code")
        context.close()
    assert faults == []


def compare_on(shown: Any, first: str, second: str) -> str:
    """Choose two rows by their keys; return the difference that the page shows."""
    shown.select_option("#first", first)
    shown.select_option("#second", second)
    parts = shown.locator(".answer").inner_text().split(" macro AUROC")[0]
    return " ".join(parts.split())


@pytest.mark.slow
def test_two_rows_are_compared_in_both_directions(opened: Open, made: list[Board], text: str) -> None:
    shown = opened()
    for board, given in zip(made, data_of(text), strict=True):
        keys = [row["key"] for row in given["rows"]]
        places = {row.name: place for place, row in enumerate(board.rows)}
        assert board.standing is not None
        for pair in board.standing.pairs:
            first, second = keys[places[pair.first]], keys[places[pair.second]]
            assert compare_on(shown, first, second) == spell_difference(pair.differences["auroc"])
            assert shown.locator(".verdict").inner_text() == verdict(board, pair)
            shown.click("#swap")
            turned = " ".join(shown.locator(".answer").inner_text().split(" macro AUROC")[0].split())
            assert turned == spell_difference((-pair).differences["auroc"])
            assert shown.evaluate("location.hash") == f"#{second}-{first}"


@pytest.mark.slow
def test_labels_and_parts_are_shown_and_a_link_keeps_the_choice(opened: Open, text: str) -> None:
    whole = data_of(text)[0]
    first, second, *_, labels, parts = whole["pairs"][0]
    keys = [row["key"] for row in whole["rows"]]
    shown = opened(f"ptb-xl-1.0.3/superdiag.html#{keys[second]}-{keys[first]}")
    tables = shown.locator(".parts")

    for at, (group, values) in enumerate(zip(whole["groups"], (labels, parts), strict=True)):
        lines = tables.nth(at).locator("tbody tr")
        assert lines.count() == len(group) == len(values)
        for place, ((name, _), (value, low, high)) in enumerate(zip(group, values, strict=True)):
            cells = lines.nth(place).inner_text()
            assert name in cells
            printed = f"{-value:+.4f} ({-high:+.3f} to {-low:+.3f})".replace("-", "−")
            assert printed in cells, "the second row is named first, so signs are turned"


@pytest.mark.slow
def test_filters_sorting_and_ticks(opened: Open, made: list[Board]) -> None:
    shown = opened()
    names = lambda: [" ".join(each.split()) for each in shown.locator("#rows .open:visible").all_inner_texts()]
    assert len(names()) == 5  # the board with most rows
    assert shown.locator("#count").inner_text() == "5 of 7 rows"
    assert not shown.locator("#rows tbody .of-share").first.is_visible()

    shown.select_option("#filter-share", "")
    assert len(names()) == 7
    assert shown.locator("#rows tbody .of-share").first.is_visible()
    shown.select_option("#filter-method", "=ft")
    assert names() == ["ft", "ft", "ft"]
    shown.select_option("#filter-backbone", f"=b {HARD}")
    assert names() == ["ft"]
    shown.click("#reset")
    shown.fill("#search", "lpft")
    assert names() == ["lpft-sd", "lpft-sd"]
    shown.fill("#search", "")
    shown.locator("thead .of-minutes").click()
    shown.wait_for_selector("thead .of-minutes[aria-sort=ascending]")  # DataTables sorts after the click has returned
    minutes = [float(each) for each in shown.locator("#rows tbody .of-minutes .text").all_inner_texts()]
    assert minutes == sorted(minutes)
    shown.locator("thead .of-minutes").click()
    shown.wait_for_selector("thead .of-minutes[aria-sort=descending]")
    assert [float(each) for each in shown.locator("#rows tbody .of-minutes .text").all_inner_texts()] == minutes[::-1]

    shown.click("#reset")
    boxes = shown.locator("#rows tbody .pick input")
    for box in range(7):
        if boxes.nth(box).is_checked():
            boxes.nth(box).uncheck()
    assert not shown.locator(".answer").count()
    boxes.nth(0).check()
    boxes.nth(1).check()
    assert shown.locator("#brief").is_visible()
    assert shown.locator(".answer").count() == 1
    boxes.nth(6).check()  # a row of the other board: its own board's difference alone is shown
    assert [boxes.nth(box).is_checked() for box in range(7)] == [False] * 6 + [True]
    assert "are not compared" in shown.locator("#status").inner_text()


@pytest.mark.slow
def test_a_mark_shows_its_command_to_mouse_and_keyboard(opened: Open, made: list[Board]) -> None:
    shown = opened()
    point = shown.locator("#chart .point").last
    point.hover()
    assert HARD in shown.locator("#tip code").inner_text()
    shown.keyboard.press("Escape")
    assert not shown.locator("#tip").is_visible()
    point.click()
    fold = shown.locator("#rows .command code")
    assert fold.count() == 1
    assert fold.inner_text().startswith("bench run --method")
    assert shown.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"


@pytest.mark.slow
def test_everything_is_reached_by_keyboard(opened: Open) -> None:
    shown = opened()
    reached = []
    for _ in range(60):
        shown.keyboard.press("Tab")
        active = shown.evaluate("(e => e.id || e.getAttribute('class') || e.type || e.tagName)(document.activeElement)")
        if active == "point" or active.startswith("point "):
            before = shown.evaluate("document.activeElement.dataset.key")
            shown.keyboard.press("ArrowRight")
            assert shown.evaluate("document.activeElement.dataset.key") != before
            assert shown.locator("#tip").is_visible()
        reached.append(active)
        if active == "second":
            break
    assert {"skip", "theme", "filter-share", "filter-method", "search", "reset", "scroll", "open", "checkbox"} <= set(
        reached
    )
    assert {"first", "swap", "second"} <= set(reached)
    assert any(each.startswith("point") for each in reached)

    shown.locator("#rows .open").first.focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#rows .facts").count() == 1
    shown.locator("#rows thead .of-rank [role=button]").press("Enter")
    shown.wait_for_selector("#rows thead th.of-rank[aria-sort=ascending]")  # DataTables sorts after the key


@pytest.mark.slow
def test_themes_follow_the_system_and_the_switch(opened: Open) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = opened(color_scheme="dark")
    shown = opened(color_scheme="light")
    assert shown.evaluate(ground) != dark.evaluate(ground)
    light = shown.evaluate(ground)
    shown.click("#theme")
    assert shown.evaluate(ground) == light
    shown.click("#theme")
    assert shown.evaluate(ground) == dark.evaluate(ground)
    shown.reload()
    assert shown.evaluate(ground) == dark.evaluate(ground), "the choice is kept"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", ["index.html", "ptb-xl-1.0.3/superdiag.html"])
def test_axe_has_no_complaint_and_nothing_is_cut_off(opened: Open, name: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    shown = opened(name, width, color_scheme=scheme, bypass_csp=True)  # axe is a script of another's
    shown.locator("#rows .open").first.click()
    shown.locator("#chart .point").first.focus()
    for box in range(2):
        shown.locator("#rows tbody .pick input").nth(box).check()
    found = axe.Axe().run(shown)

    assert found.response["violations"] == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert all(
        box["x"] >= 0 and box["x"] + box["width"] <= width
        for box in (each.bounding_box() for each in shown.locator("#rows .open:visible").all())
    )


@pytest.mark.slow
def test_without_javascript_the_table_is_there(opened: Open) -> None:
    shown = opened(java_script_enabled=False)
    assert shown.locator("#rows tbody tr").count() == 7
    assert shown.locator("#rows tbody tr").first.is_visible()
    assert not shown.locator(".filters").is_visible()
    assert not shown.locator("#theme").is_visible()


def test_only_constant_scores_are_left_out_of_the_picture(made: list[Board]) -> None:
    """A row whose score is 0.5 by accident has an interval with a width, and is drawn."""

    def constant(low: float, high: float) -> bool:
        row = made[0].rows[0]
        of_frequent = {**row.summaries["frequent"], "auroc": Interval(0.5, low, high)}
        row = replace(row, summaries={**row.summaries, "frequent": of_frequent})
        found = html_data.board_data(replace(made[0], rows=(row,), standing=None), None, "", 1)["rows"]
        return bool(found[0]["constant"])

    assert constant(0.5, 0.5) and not constant(0.24, 0.749)
