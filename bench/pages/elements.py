"""Write HTML: every text is escaped unless it is an element already, so that names in results cannot add code."""

from __future__ import annotations

import html
import json
from typing import Any

EMPTY = frozenset({"input", "link", "meta", "br"})
"""Elements without content."""


class Html(str):
    """Text that is HTML already. Only `element`, `joined` and files of this package make it."""

    __slots__ = ()


def escaped(content: str) -> Html:
    """Return a text as HTML; an element stays as it is."""
    return content if isinstance(content, Html) else Html(html.escape(content, quote=True))


def joined(*content: str) -> Html:
    """Return texts and elements one after the other."""
    return Html("".join(map(escaped, content)))


def element(name: str, /, *content: str, **attributes: str | bool) -> Html:
    """Return an element. `class_` is the attribute class, `data_key` is data-key; True is an attribute without value.

    An attribute that is False is left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not False:
            given = "" if value is True else f'="{html.escape(value, quote=True)}"'
            words.append(key.rstrip("_").replace("_", "-") + given)
    start = Html(f"<{' '.join(words)}>")
    return start if name in EMPTY else Html(f"{start}{joined(*content)}</{name}>")


def embedded_json(data: Any) -> Html:
    """Return data as JSON for a <script> element: no character of it can end the element or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)
