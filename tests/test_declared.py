"""The declared plan of a board: which names match which rows, and what a file may declare."""

from pathlib import Path

import pytest

from bench.boards.declared import BASELINE, BoardPlan, names_row, with_labels
from bench.errors import BenchError

NAMES = [
    "ft on net, bf16 (own:460b68ef)",
    "lpft on net, bf16 (own:460b68ef)",
    "ft on net, bf16 (random)",
    "lpft(lr=0.1) on net, bf16 (random)",
    "scratch on fcn_wang (random)",
    "theirs (external)",
]


@pytest.mark.parametrize(
    ("baseline", "family", "expected"),
    [
        ("ft", None, [(1, 0), (3, 2)]),  # each on its own backbone and init; what has no ft there is not tested
        ("ft", ("lpft",), [(1, 0), (3, 2)]),
        ("lpft", ("ft",), [(0, 1), (2, 3)]),  # whatever its setting
        ("ft on net (own)", None, [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]),
        ("ft on net (random)", ("lpft on net", "theirs (external)"), [(1, 2), (3, 2), (5, 2)]),
        ("ft on net, bf16 (own:460b68ef)", ("scratch",), [(4, 0)]),
        ("scratch on fcn_wang", ("ft",), [(0, 4), (2, 4)]),
        ("theirs (external)", ("lpft(lr=0.1)",), [(3, 5)]),
        ("lp", None, []),
        ("ft on other", None, []),
        (None, None, []),
    ],
)
def test_a_baseline_is_declared_without_hash_or_precision(
    baseline: str | None, family: tuple[str, ...] | None, expected: list[tuple[int, int]]
) -> None:
    plan = BoardPlan(baseline, family)
    assert list(plan.roles(NAMES)) == [(NAMES[one], NAMES[other]) for one, other in expected]
    assert set(plan.roles(NAMES)) <= set(plan.contrasts(NAMES))


def test_the_plain_method_is_the_baseline_where_it_stands_beside_a_tuned_one() -> None:
    names = ["ft on net (random)", "ft(lr=0.1) on net (random)", "lp on net (random)"]

    assert BoardPlan("ft").contrasts(names) == [(names[1], names[0]), (names[2], names[0])]
    with pytest.raises(
        BenchError, match=r"'ft' fits several rows: ft\(lr=0.1\) on net \(random\), ft\(lr=0.2\) on net"
    ):
        BoardPlan("ft").contrasts([*names[1:], "ft(lr=0.2) on net (random)"])


def test_a_tuned_row_has_the_tuned_baseline() -> None:
    tuned = ["ft(lr=0.1) on net (random)", "lpft(lr=0.1) on net (random)"]
    names = ["ft on net (random)", "lpft on net (random)", *tuned]

    assert BoardPlan("ft").contrasts(names, tuned) == [(names[1], names[0]), (names[3], names[2])]
    assert BoardPlan("ft").contrasts(names[1:], tuned) == [(names[1], names[2]), (names[3], names[2])]


def test_a_tuned_row_beside_an_untuned_baseline_alone_is_in_no_study() -> None:
    """Its p would be corrected together with that of the default row, which a new row must not change."""
    names = ["lpft-sd on net (random)", "ft on net (random)", "lpft-sd(a=1) on net (random)"]
    plan = BoardPlan("ft", ("lpft-sd",), primary="lpft-sd minus ft")

    assert list(plan.roles(names, names[2:])) == [(names[0], names[1])] == list(plan.roles(names[:2]))
    assert plan.contrasts(names, names[2:]) == [(names[0], names[1]), (names[2], names[1])], "but it is shown"


def test_what_was_declared_and_is_missing_is_named() -> None:
    assert BoardPlan("ft", ("lpft", "lpft-sdd")).absent(NAMES) == ["lpft-sdd"]
    assert BoardPlan("ft").absent(NAMES) == []


def test_a_baseline_that_may_be_either_is_refused() -> None:
    with pytest.raises(BenchError, match=r"'ft on net' fits several rows: ft on net, bf16 \(own:460b68ef\), ft on net"):
        BoardPlan("ft on net").contrasts(NAMES)


def test_a_plan_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "form.toml"
    assert BoardPlan.load(path) == BoardPlan("ft", None, 0.005), "nothing is declared: the baseline is ft"
    path.write_text(
        'primary = "lpft minus ft"\nbaseline = "ft on net (random)"\nfamily = ["lp on net (random)"]\nmargin = 0.01\n'
    )
    assert BoardPlan.load(path) == BoardPlan("ft on net (random)", ("lp on net (random)",), 0.01, "lpft minus ft")
    path.write_text("preregistered = false")
    assert BoardPlan.load(path) == BoardPlan(preregistered=False)
    for text, message in (
        ("baseline = ", "is not TOML"),
        ('preregistered = "no"', "preregistered must be true or false, got 'no'"),
        ("base = 1", "unknown keys base; expected primary, family, baseline, margin"),
        ('primary = "lpft-sd"', "primary must be a contrast in quotes, such as \"lpft-sd minus ft\", got 'lpft-sd'"),
        ("primary = 1", "primary must be a contrast in quotes"),
        ('family = ["lp"]', "family has 'lp', but there is no baseline to compare it with; add baseline = "),
        (
            'baseline = "a"\nfamily = ["a minus b minus c"]',
            "family has 'a minus b minus c', expected a method, a row or",
        ),
        ("margin = true", r"margin must be a number in \[0, 1\), got True"),
        ("margin = 2", r"margin must be a number in \[0, 1\)"),
        ("baseline = 3", "baseline must be a method or a row in quotes, got 3"),
        ('family = "lp"', "family must be a list of methods, rows or contrasts in quotes, got 'lp'"),
    ):
        path.write_text(text)
        with pytest.raises(BenchError, match=message):
            BoardPlan.load(path)


def test_a_baseline_may_start_from_any_file_of_a_stranger() -> None:
    assert names_row("ft on net (file)", "ft on net (file:460b68ef)")
    assert not names_row("ft on net (own)", "ft on net (file:460b68ef)")
    assert not names_row("ft on net (file)", "ft on net (own:460b68ef)")


def test_labels_are_read_and_those_of_a_command_come_first(tmp_path: Path) -> None:
    path = tmp_path / "form.toml"
    path.write_text('[labels]\n"own:389512e4" = "A"\nlp = "linear probe"\n')

    plan = BoardPlan.load(path)
    assert plan.labels == {"own:389512e4": "A", "lp": "linear probe"}
    assert with_labels(lambda dataset, task: plan, {"own:389512e4": "B"})("d", "t").labels == {
        "own:389512e4": "B",
        "lp": "linear probe",
    }
    for text, message in (
        ("labels = 1", "labels must be names and labels in quotes"),
        ("[labels]\nlp = 1", "labels must be names and labels in quotes"),
        ('[labels]\nlp = " "', "the label of 'lp' must be a line of text, got ' '"),
        ('[labels]\nlp = "a\\nb"', "the label of 'lp' must be a line of text"),
        ('[labels]\nlp = "A"\nft = "A"', "'lp' and 'ft' have the same label 'A'; give each its own"),
    ):
        path.write_text(text)
        with pytest.raises(BenchError, match=message):
            BoardPlan.load(path)


def test_starts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "form.toml"
    path.write_text('[starts]\n"own:389512e4" = "starts/a.pt"\n')

    assert BoardPlan.load(path).starts == {"own:389512e4": "starts/a.pt"}
    for text in ("starts = 1", '[starts]\n"own:389512e4" = 1', '[starts]\n"own:389512e4" = " "'):
        path.write_text(text)
        with pytest.raises(BenchError, match=r"form.toml: starts must be inits and files in quotes, such as "):
            BoardPlan.load(path)


def test_the_protocol_says_what_holds_without_a_file(tmp_path: Path) -> None:
    text = " ".join((Path(__file__).parent.parent / "leaderboards/PROTOCOL.md").read_text(encoding="utf-8").split())
    plan = BoardPlan.load(tmp_path / "mine.toml")

    assert plan == BoardPlan(baseline=BASELINE)
    assert f"its baseline is `{plan.baseline}` on the same backbone and init, and its margin {plan.margin:g}." in text
