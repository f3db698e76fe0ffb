"""The fold below a table: minutes that can be compared or are marked, selection by row, and where weights come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.boards.declared import BoardPlan
from bench.boards.rows import Board, Row
from bench.evaluation.bootstrap import Interval
from bench.pages.costs import command_of, cost_lines, leaves_out_features, terms_lines
from bench.pages.markdown import cells_of
from bench.results.result import Result


def row(method: str, *phases: dict[str, Any], seconds: tuple[float, ...] = (60,), **document: Any) -> Row:
    """Runs of these seconds, each with these phases."""
    runs = []
    for one in seconds:
        training = [
            {"trainable_parameters": 7, "selection": "best", "seconds": one / len(phases), **phase} for phase in phases
        ]
        cell = {"method": method, "command": f"bench run --method {method}"}
        said = {"training": training, "cell": cell, "init": {"name": "random"}, **document}
        runs.append(Result(Path(), said))
    return Row("net", said["init"]["name"], method, tuple(runs), {"frequent": {"auroc": Interval(0.9, 0.8, 0.95)}})


def text_of(*rows: Row) -> str:
    return "\n".join(cost_lines(Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", rows, (), None, BoardPlan(), None)))


def table_of(text: str) -> list[dict[str, str]]:
    lines = [cells_of(line) for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]


def test_selection_stands_with_its_row() -> None:
    found = row("ft", {}), row("both", {}, {"selection": "last"}), row("scratch", {"selection": "last"})
    text = text_of(*found)

    assert [cells["selection"] for cells in table_of(text)] == ["best", "best, last", "last"]
    assert "`best`, the epoch of the best fold-9 macro AUROC over all labels; `last`, the last epoch." in text
    assert "lowest-loss" not in text


def test_minutes_are_a_mean_and_its_range() -> None:
    found = table_of(text_of(row("ft", {}, seconds=(60, 120, 240)), row("one", {}), row("quick", {}, seconds=(1, 2))))

    assert [cells["minutes"] for cells in found] == ["2.3 (1.0–4.0)", "1.0", "< 0.1"]


@pytest.mark.parametrize(
    ("phase", "marked"),
    [({}, False), ({"on_features": True}, True), ({"on_features": True, "feature_seconds": 9.0}, False)],
)
def test_minutes_without_the_features_are_marked(phase: dict[str, Any], marked: bool) -> None:
    one = row("lpft", phase, {"on_features": False})
    text = text_of(one)

    assert leaves_out_features(one) is marked
    assert table_of(text)[0]["minutes"] == "1.0" + "‡" * marked
    assert ("- ‡ A phase" in text) is marked


def start(name: str, **facts: str) -> dict[str, Any]:
    facts_of_run = {
        "digest": "8b124f40",
        "command": "bench run --task nondiag",
        "trained_on": "nondiag, folds 1-8",
        **facts,
    }
    return {"name": name, "sha256": f"{name[4:]}fedcba9876543210", "facts": facts_of_run}


def test_weights_of_one_command_are_told_apart() -> None:
    """Two commands that read the same started from two weights."""
    kept = [{"trials": [{}]}, {}]
    rows = [
        row("ft", {}, init=start(name), search=search, environment={"git_commit": commit * 20})
        for name, search, commit in zip(("own:1111aaaa", "own:2222bbbb"), kept, ("ab", "cd"), strict=True)
    ]
    text = text_of(*rows)

    assert "1. `bench run --method ft`, weights `1111aaaafedc`" in text
    assert "2. `bench run --method ft`, weights `2222bbbbfedc`" in text
    assert (
        "`own:1111aaaa` (SHA-256 `1111aaaafedcba9876543210`) are the weights that `bench run --task nondiag` left"
        in text
    )
    assert "by which commit; the rows that start from it ran at `abababa`." in text
    twins = "`own:1111aaaa` and `own:2222bbbb` are different weights, though command and digest"
    assert twins in text
    assert "not crossed (`own:1111aaaa` only tuned, `own:2222bbbb` only defaults)" in text

    crossed = text_of(*rows, row("lp", {}, init=start("own:1111aaaa")))
    assert twins in crossed
    assert "not crossed" not in crossed
    assert twins not in text_of(rows[0], row("ft", {}, init=start("own:2222bbbb", digest="another")))
    assert "left, trained on nondiag, folds 1-8, by commit `1234567`." in text_of(
        row("ft", {}, init=start("own:1111aaaa", git_commit="1234567890"))
    )


def test_a_command_starts_from_the_file_that_the_board_declares() -> None:
    """A path on the machine of the run stands nowhere; without a declared place the hash names the weights."""
    plan = BoardPlan(starts={"own:1111aaaa": "starts/a b.pt"})
    asked = {"method": "ft", "init": "/home/me/w.pt", "command": "bench run --method ft --init /home/me/w.pt --draw 0"}
    rows = [row("ft", {}, init=start(name), cell=asked) for name in ("own:1111aaaa", "own:2222bbbb")]
    lines = cost_lines(Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", rows, (), None, plan, None))

    assert [command_of(each.runs[0], plan.starts) for each in rows] == [
        'bench run --method ft --init "starts/a b.pt" --draw 0',
        "bench run --method ft --init own:2222bbbb --draw 0",
    ]
    assert '1. `bench run --method ft --init "starts/a b.pt" --draw 0`, weights `1111aaaafedc`' in lines
    command = "`bench run --method ft --init own:2222bbbb --draw 0`"
    lost = f"2. {command}, weights `2222bbbbfedc`, no file of them is published"
    assert lost in lines
    assert "No file of `own:2222bbbb` is published: a command with such a name cannot be run as it stands." in lines
    assert any(line.startswith("`own:1111aaaa` (in `starts/a b.pt`, SHA-256 `1111aaaafedcba") for line in lines)
    assert "/home/me" not in "\n".join(lines)


def test_weights_of_a_stranger_are_not_called_a_run_of_ours() -> None:
    facts = {"file": "founder.pth", "file_sha256": "ab12", "read_as": "keys"}
    text = text_of(
        row("ft", {}, init={"name": "file:1234abcd", "sha256": "1234abcd99", "source": "founder.pth", "facts": facts})
    )

    assert (
        "`file:1234abcd` (SHA-256 `1234abcd99`) are weights from the file `founder.pth` (SHA-256 `ab12`), which no run "
        "of this program made."
    ) in text
    assert "left" not in text


def test_memory_is_shown_where_the_result_says_how_it_was_measured() -> None:
    measured = {"peak_memory_mib": 1234.5, "peak_memory_measured_by": "VmHWM of a fresh process"}
    older, unknown = {"peak_memory_mib": 1397.0}, {"peak_memory_mib": None, "peak_memory_measured_by": None}
    shared = {"peak_memory_mib": 1300.0, "peak_memory_measured_by": "VmHWM"}
    costs = {"ft": measured, "lp": older, "lpft": unknown, "ft-sd": shared}
    text = text_of(*(row(method, {}, cost=cost) for method, cost in costs.items()))

    assert [cells["peak MiB"] for cells in table_of(text)] == ["1,234", "–", "–", "–"]
    assert "- Peak MiB: – where the memory of earlier runs of the same process may be in the figure." in text
    assert "Peak MiB:" not in text_of(row("ft", {}, cost=measured))


def test_terms_of_published_weights_stand_on_the_board_once() -> None:
    terms = {"license": "CC-BY-NC-4.0", "noncommercial": True, "pretraining_data": "PhysioNet 2021"}
    terms |= {"ptbxl_seen": "yes", "source": "their <b>README</b>"}
    init = {"name": "pretrained", "sha256": "0" * 64, "facts": {"repo": "lab/net", "terms": terms}}
    rows = [row(method, {}, init=init, cell={"arch": "net", "command": "bench run"}) for method in ("ft", "lp")]
    board = Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", (*rows, row("scratch", {})), (), None, BoardPlan(), None)

    assert terms_lines(board) == [
        "- Published weights of net: lab/net; licence CC-BY-NC-4.0, non-commercial use only; pre-trained on PhysioNet "
        "2021; PTB-XL seen in pre-training: yes (their &lt;b>README&lt;/b>).",
        "",
    ]
    assert not terms_lines(replace(board, rows=(row("scratch", {}),)))


@pytest.mark.parametrize(
    ("name", "facts", "begins"),
    [
        (
            "pretrained",
            {"from": "https://a.org", "unverified": True},
            "Published weights of net: https://a.org, compared ",
        ),
        (
            "file:01234567",
            {"file": "a.pt", "unverified": True},
            "`file:01234567` of net, from the file `a.pt`, was compared",
        ),
        (
            "own:01234567",
            {"repo": "lab/net", "command": "bench run"},
            "`own:01234567` of net was trained from published ",
        ),
    ],
)
def test_terms_stay_with_weights_of_any_origin(name: str, facts: dict[str, Any], begins: str) -> None:
    terms = {"license": "CC-BY-NC-4.0", "noncommercial": True, "ptbxl_seen": "yes"}
    init = {"name": name, "sha256": "0" * 64, "facts": {**facts, "terms": terms}}
    given = row("ft", {}, init=init, cell={"arch": "net", "command": "bench run"})
    board = Board("ptb-xl-1.0.3", False, "form", "f", 1.0, "", (given,), (), None, BoardPlan(), None)

    line, _ = terms_lines(board)

    assert line.startswith(f"- {begins}")
    assert line.endswith("licence CC-BY-NC-4.0, non-commercial use only; PTB-XL seen in pre-training: yes.")
