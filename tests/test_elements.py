"""Elements escape every text that is no element, in content, attributes and embedded JSON."""

import json
from html.parser import HTMLParser

from bench.pages.elements import Html, element, embedded_json, escaped, joined

HARD = '</script><img src=x onerror="hack()">&amp;\'\u2028<!--'


def parsed(text: str) -> tuple[list[str], dict[str, str | None], str]:
    """Tags, attributes of all of them, and text."""
    tags, attributes, texts = list[str](), dict[str, str | None](), list[str]()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: (tags.append(tag), attributes.update(attrs))  # type: ignore[assignment, method-assign]
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed(text)
    parser.close()
    return tags, attributes, "".join(texts)


def test_text_and_attributes_are_read_back_as_they_were() -> None:
    tags, attributes, text = parsed(element("p", HARD, title=HARD, class_="a", data_key="b"))

    assert tags == ["p"]
    assert attributes == {"title": HARD, "class": "a", "data-key": "b"}
    assert text == HARD


def test_elements_stay_elements_and_texts_do_not_become_some() -> None:
    inner = element("b", "1 < 2")
    assert joined(inner, "<i>") == "<b>1 &lt; 2</b>&lt;i&gt;"
    assert escaped(inner) is inner
    assert isinstance(element("p", inner, "x"), Html)


def test_flags_and_empty_elements() -> None:
    assert element("input", disabled=True, checked=False, type="checkbox") == '<input disabled type="checkbox">'


def test_embedded_json_cannot_end_its_script() -> None:
    text = embedded_json({HARD: [HARD, 0.5, None]})

    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {HARD: [HARD, 0.5, None]}
