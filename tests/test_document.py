"""A result.json of a stranger: whatever its fields say, pages stay in their folder and nothing in them is executed."""

import contextlib
import copy
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.boards.rows import make_boards
from bench.boards.truth import Truth, truth_of
from bench.cell import Cell
from bench.errors import BenchError, DataError
from bench.pages.leaderboards import write_leaderboards
from bench.pages.markdown import sentence
from bench.pages.publish import faults_of, publish
from bench.registry.reference import Reference
from bench.results.document import faults, is_command, require_printable, unsafe
from bench.results.result import load_head, load_result

PUBLISHED = Path(__file__).parent.parent / "leaderboards/ptb-xl-1.0.3/results/superdiag"
SOURCE = sorted(PUBLISHED.glob("net1d_mini-*-0.1-*"))[0]
NOTHING = truth_of(Path("no dataset"))
HOSTILE = [
    "../../../escaped/x", "/tmp/escaped", "..", "", ".", "a/b", "a\0b", "CON\n# title", "a | b", "`code",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "a\u202eb",
    "a\x1b[2Jb", "\ud800", "&lt;b&gt;", "$(touch escaped)", "bench run; touch escaped", "bench run && touch escaped",
    "bench run --task 'a' | sh", "bench run `touch escaped`", "x" * 5000, "$x^$", "a]]>b", "_hidden", "a\u2028b",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.lists(st.sampled_from(HOSTILE), max_size=2),
    st.dictionaries(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), max_size=2),
)
DOCUMENT = json.loads((SOURCE / "result.json").read_text())


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in plain data something stands, leaves and what holds them."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Plain data with another value at one place."""
    made = copy.deepcopy(document)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return made


PLACES = [path for path in places({**DOCUMENT, "metrics": {}}) if path[0] != "schema"]
CHECKED = ("cell", "dataset", "task", "digest", "stage", "incompatible")
"""Sections of which every field that boards use is checked where a result is loaded."""


def put(folder: Path, document: Any) -> Path:
    """A run with this result.json, and the predictions of the one that it was made of."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(document))
    shutil.copyfile(SOURCE / "predictions.npz", folder / "predictions.npz")
    return folder


def harmless(page: str) -> bool:
    """Whether a page has no HTML but ours, no link but those between pages, and no character that moves others."""
    tags = set(re.findall(r"<[A-Za-z/!?][^>]*>?", page)) - {"<details>", "</details>", "<summary>", "</summary>"}
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", page)
    return (
        not tags
        and all(re.fullmatch(r"[\w./+-]+", link) and ".." not in link for link in links)
        and not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
        and all(line.count("`") % 2 == 0 for line in page.splitlines())
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PLACES), value=VALUES, declined=st.booleans())
def test_no_field_of_a_result_gets_out_of_its_page(
    tmp_path: Path, path: tuple[Any, ...], value: Any, declined: bool
) -> None:
    document = changed({**DOCUMENT, "incompatible": "no <b>head</b>" if declined else None}, path, value)
    outer = tmp_path / "outer"
    shutil.rmtree(outer, ignore_errors=True)
    run = put(outer / "runs/a-00000000", document)
    try:
        result = load_result(run)
    except DataError:
        return
    assert not result.document["cell"]["command"] or is_command(result.document["cell"]["command"])
    target = outer / "a/b/c/boards"
    # a number that is none, in what only costs and curves are made of, is another matter: nothing gets out
    others = (KeyError, TypeError, AttributeError, ValueError, BenchError, IndexError, OverflowError)
    with contextlib.suppress(*(() if path[0] in CHECKED else others)):
        write_leaderboards(make_boards([result], NOTHING), target, NOTHING)
    written = {file for file in outer.rglob("*") if file.is_file() and not file.is_relative_to(run)}
    assert all(file.is_relative_to(target) for file in written)
    for file in written:
        if file.suffix == ".svg":
            kinds = {element.tag.rpartition("}")[2] for element in ElementTree.parse(file).iter()}
            assert not kinds & {"script", "foreignObject", "a", "image"}
        else:
            assert harmless(file.read_text()), file.read_text()


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/escaped", "..", "", "a/b", "a\\b", "a\n"])
@pytest.mark.parametrize("field", [("dataset", "name"), ("cell", "task"), ("task", "name")])
@pytest.mark.parametrize("incompatible", [None, "it has no head"])
def test_a_name_that_is_no_name_is_refused_where_it_is_loaded(
    tmp_path: Path, name: str, field: tuple[str, str], incompatible: str | None
) -> None:
    run = put(tmp_path / "run", changed({**DOCUMENT, "incompatible": incompatible}, field, name))
    for load in (load_result, load_head):
        with pytest.raises(DataError, match=rf"{field[0]}\.{field[1]}"):
            load(run)


def test_a_declined_result_is_held_to_the_dataset(demo_set: Path, tmp_path: Path) -> None:
    document = {**DOCUMENT, "incompatible": "it has no head", "task": {**DOCUMENT["task"], "fingerprint": "0" * 64}}
    run = put(tmp_path / "run", document)

    found = faults_of(load_result(run), Truth(demo_set))
    copied, _ = publish([run], tmp_path / "boards", Truth(demo_set))

    assert [fault for fault in found if "differs from that of the dataset at hand" in fault]
    assert not copied
    assert not (tmp_path / "boards").exists()


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*"))[:5], ids=lambda path: path.name)
def test_what_we_have_published_is_read(path: Path) -> None:
    document = json.loads((path / "result.json").read_text())
    assert not [*faults(document), *unsafe(document)]


WORDS = st.one_of(
    st.sampled_from([text for text in HOSTILE if "\0" not in text]),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
)


@settings(deadline=None)
@given(init=WORDS.filter(len), name=WORDS)
def test_a_shell_reads_a_printed_command_as_the_words_of_the_cell(init: str, name: str) -> None:
    cell = Cell(
        data=Path("data"),
        task="form",
        arch=Reference.parse("net1d_mini"),
        method=Reference.parse("scratch(lr=0.01)"),
        init=init,
        manifest=Path(f"{name}.json"),
    )

    words = shlex.split(cell.command())

    assert words[words.index("--init") + 1] == init
    assert words[words.index("--manifest") + 1] == str(Path(f"{name}.json"))
    assert is_command(cell.command())


@pytest.mark.parametrize("text", [t for t in HOSTILE if t.startswith("bench")] + ["rm x", "bench run $(x)", "bench 'a"])
def test_what_is_no_single_call_is_no_command(text: str) -> None:
    assert not is_command(text)


def test_a_result_that_could_not_be_read_is_refused_before_the_work() -> None:
    require_printable(DOCUMENT)
    with pytest.raises(BenchError, match=r"task\.labels"):
        require_printable(changed(DOCUMENT, ("task", "labels", 0), "<b>NORM</b>"))


def test_free_text_stays_one_harmless_line() -> None:
    text = sentence("no <b>head</b>,\n\n# but [a](b) and 3 < 4")
    assert text == r"no &lt;b>head&lt;/b>, # but [a\](b) and 3 < 4"
