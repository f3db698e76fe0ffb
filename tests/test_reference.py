"""References are read back as printed, and anything but a call with plain values is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import PluginError
from bench.registry.reference import Reference, split_list

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}(-[a-z0-9_]{1,4})?", fullmatch=True)


KEYS = st.from_regex(r"k_[a-z0-9_]{0,8}", fullmatch=True)


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)


VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.lists(PLAIN, max_size=3).map(tuple))


@given(NAMES, st.dictionaries(KEYS, VALUES, max_size=3))
def test_a_reference_is_read_back_as_it_is_printed(name: str, arguments: dict[str, Any]) -> None:
    reference = Reference(name, arguments)

    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize("text", ["lp", " lp ", "lp()", "lp( )", "lp (probe_epochs=3)"])
def test_spaces_and_empty_parentheses_do_not_matter(text: str) -> None:
    assert Reference.parse(text).name == "lp"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ft(finetune_epochs=one)", r"epochs is one in .* is no number; a text needs quotes: finetune_epochs='one'$"),
        ("ft(nesterov=true)", r"nesterov is true in .*; write True$"),
    ],
)
def test_a_word_without_quotes_is_named(text: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lp(",
        "lp)",
        "lp(1)",
        "lp(epochs)",
        "lp(epochs=3",
        "lp(epochs=3)(lr=1)",
        "lp(epochs=3) + lp()",
        "lp(epochs=3)#)",
        "lp(epochs=1, epochs=2)",
        "lp(**{'epochs': 3})",
        "lp(epochs=print('x'))",
        "lp(epochs=[1][0])",
        "lp(epochs={[]: 1})",
        "l p",
        "2lp",
        "methods.lp",
        "lp(a='\0')",
    ],
)
def test_what_is_not_a_call_with_plain_values_is_refused(text: str) -> None:
    with pytest.raises(PluginError, match=r"expected name or name\(key=value, ...\)"):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "is_list"),
    [
        ("ft,lp", True),
        ("lp(probe_epochs=2),ft", True),
        ("net(widths=(1, 2), depth=3", False),
        ("net(name='a,b') x", False),
    ],
)
def test_only_a_list_is_sent_to_the_sweep(text: str, is_list: bool) -> None:
    with pytest.raises(PluginError) as refused:
        Reference.parse(text)

    assert ("bench sweep takes several" in str(refused.value)) is is_list


@pytest.mark.parametrize("value", ["1e999", "-1e999", "[0.5, (1e999,)]", "1e999j", "{'a': 1e999}"])
def test_a_number_that_could_not_be_read_back_is_refused(value: str) -> None:
    with pytest.raises(PluginError, match="too large: it would be infinite"):
        Reference.parse(f"ft(finetune_lr={value})")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ft", ["ft"]),
        ("ft, lp ,lpft", ["ft", "lp", "lpft"]),
        (
            "ft,lpft-sd(drop_path_rate=0.3, finetune_lr=3e-4),lp",
            ["ft", "lpft-sd(drop_path_rate=0.3, finetune_lr=3e-4)", "lp"],
        ),
        ("net(widths=(1, 2), names=['a,b', \"c)\"]),x", ["net(widths=(1, 2), names=['a,b', \"c)\"])", "x"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_a_list_is_cut_at_its_own_commas(text: str, parts: list[str]) -> None:
    assert split_list(text) == parts
