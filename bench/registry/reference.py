"""A plugin's name with arguments, written as the call it stands for: `lpft-sd(drop_path_rate=0.3)`."""

from __future__ import annotations

import ast
import cmath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import PluginError


@dataclass(frozen=True)
class Reference:
    """A name with arguments, written as the call it stands for: `lpft-sd(drop_path_rate=0.3)`."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse `name` or `name(key=value, ...)`; values are Python literals. Raises PluginError for anything else."""
        name, parenthesis, rest = text.strip().partition("(")
        name = name.rstrip()
        hint = "; bench sweep takes several" if len(split_list(text)) > 1 else ""
        if not is_name(name) or (parenthesis and not rest.endswith(")")):
            raise PluginError(f"expected name or name(key=value, ...), got {text!r}{hint}")
        source = f"f({rest[:-1]})" if parenthesis else "f()"
        try:
            call = ast.parse(source, mode="eval").body
            # the whole text must be a single call: no operator, no second call, no comment
            whole = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            if not whole or call.end_col_offset != len(source.encode()) or call.end_lineno != 1:
                raise PluginError(f"expected name or name(key=value, ...), got {text!r}{hint}")
            assert isinstance(call, ast.Call)
            for node in ast.walk(call):
                value = node.value if isinstance(node, ast.Constant) else None
                if isinstance(value, float | complex) and not cmath.isfinite(value):
                    raise PluginError(f"a number in {text!r} is too large: it would be infinite")
            for key in call.keywords:
                if isinstance(key.value, ast.Name):
                    raise PluginError(_bare_word(text, str(key.arg), key.value.id))
            arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            raise PluginError(f"expected name or name(key=value, ...) with plain values, got {text!r}") from None
        if call.args or len(arguments) != len(call.keywords):
            raise PluginError(f"expected name or name(key=value, ...), each key once, got {text!r}")
        return cls(name, arguments)

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={value!r}" for key, value in sorted(self.arguments.items()))
        return f"{self.name}({inner})" if inner else self.name


def _bare_word(text: str, key: str, word: str) -> str:
    """Return the message on a word that stands where a plain value is expected."""
    if (meant := word.capitalize()) in ("True", "False", "None"):
        return f"{key} is {word} in {text!r}; write {meant}"
    return f"{key} is {word} in {text!r}, which is no number; a text needs quotes: {key}='{word}'"


def split_list(text: str) -> list[str]:
    """Split at commas, but not at commas inside brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts]


def is_name(text: str) -> bool:
    """Return whether `text` is a valid plugin name."""
    return canonical(text).isidentifier()


def canonical(name: str) -> str:
    """Replace `-` by `_`: both spellings name the same plugin."""
    return name.replace("-", "_")
