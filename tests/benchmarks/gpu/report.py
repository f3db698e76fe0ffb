"""What the parts have measured, in build/gpu.json and build/gpu.md: both are written anew after every single number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Report:
    """The file of all parts; a part that is run again replaces its own rows alone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gpu.json"

    def read(self) -> Document:
        """The document so far: machine, and state, seconds and rows of each part by its number."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"machine": {}, "parts": {}}

    def write(self, document: Document) -> None:
        """Both files, each whole or as it was."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path, text in ((self.path, json.dumps(document, indent=1)), (self.path.with_suffix(".md"), page(document))):
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)

    def begin(self, part: int, title: str, estimate_s: float) -> None:
        """The part has no rows yet."""
        document = self.read()
        facts = {"title": title, "state": "cut off", "seconds": None, "estimate_s": estimate_s, "rows": []}
        document["parts"] = dict(sorted({**document["parts"], str(part): facts}.items()))
        self.write(document)

    def end(self, part: int, state: str, seconds: float) -> None:
        """How the part ended, and what it took."""
        document = self.read()
        document["parts"][str(part)] |= {"state": state, "seconds": seconds}
        self.write(document)

    def machine(self, facts: Document) -> None:
        """What ran it."""
        self.write({**self.read(), "machine": facts})

    def add(self, part: int, what: str, value: object, unit: str = "", goal: str = "", met: bool | None = None) -> None:
        """A row: what was measured, its value with a unit, and the goal with whether it is met."""
        document = self.read()
        row = {"what": what, "value": value, "unit": unit, "goal": goal, "met": met}
        document["parts"][str(part)]["rows"].append(row)
        self.write(document)
        print(f"  {what}: {spell(value)} {unit} {verdict(row)}".rstrip(), flush=True)


def page(document: Document) -> str:
    """The document as Markdown."""
    lines = ["; ".join(f"{key} {value}" for key, value in document["machine"].items()), ""]
    for number, part in document["parts"].items():
        took = "" if part["seconds"] is None else f", {part['seconds']:.0f} s"
        lines += [f"## {number}. {part['title']}", "", f"{part['state']}{took}; on an H100 about", ""]
        lines[-2] += f" {part['estimate_s']:.0f} s."
        lines += ["| what | measured | goal |", "|---|---:|---|"]
        lines += [f"| {r['what']} | {spell(r['value'])} {r['unit']} | {verdict(r)} |" for r in part["rows"]] + [""]
    return "\n".join(lines)


def spell(value: object) -> str:
    """A number with three digits; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def verdict(row: Document) -> str:
    """The goal, and whether it is met; on a machine without a card there is no verdict."""
    if not row["goal"]:
        return ""
    return row["goal"] + {True: ": met", False: ": missed", None: ""}[row["met"]]
