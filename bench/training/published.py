"""What a backbone declares about its published weights: where they are, how their file is read, and what one may do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.errors import PluginError
from bench.files import file_hash


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Where a backbone's published weights are, and how the keys of their file become the backbone's.

    Every key of the file must be the backbone's, the head's, or left out. Every parameter and buffer of the backbone
    must be in the file; of a tied one, a single key is enough. Give a repository with `filename` and `revision`, or a
    `url` with a hash, or only the `page` where a person finds the file, if no program can fetch it. Patterns are
    regular expressions, matched at the beginning of a key. Raises PluginError if a declaration cannot be right.
    """

    repo: str = ""
    """Repository on the Hugging Face hub."""
    filename: str = ""
    revision: str = ""
    """Commit, tag or branch to fetch by default. A run records the commit it got and the file's hash."""
    url: str = ""
    """Address of the file outside the hub."""
    page: str = ""
    """Page where a person downloads the file and reads its terms."""
    withheld: bool = False
    """Whether the authors keep the file, so that only its layout is known. The default init is `random` then."""
    sha256: str = ""
    """Hash of the file, 64 hexadecimal digits. `--init PATH` then recognises the published file."""
    md5: str = ""
    """Hash that its page states, 32 hexadecimal digits, where the SHA-256 is not known."""
    num_bytes: int = 0
    """Size of the file; 0 if it is not known."""
    access: str = ""
    """What a person has to do before the file can be had, such as `ask for access on its page`."""

    state_dict: str = ""
    """Name of the state dict within the file, such as `teacher`, with dots between names; needed if several fit."""
    prefix: str = ""
    """Beginning of the backbone's keys in the file, such as `encoder.`."""
    head_prefix: str | None = None
    """Beginning of the published head's keys, such as `fc.`. The head is left out. None: the file has no head."""
    left_out: tuple[str, ...] = ()
    """Patterns of other keys that the backbone does not need, such as `decoder\\.`. A result names all such keys."""
    renames: tuple[tuple[str, str], ...] = ()
    """Pairs (pattern, replacement), as for `re.sub`, applied to each key of the file in turn, before all else. Several
    keys may get one name if their tensors are equal, as those of a module that the file has twice."""
    inert_classes: tuple[str, ...] = ()
    """Patterns of classes, such as `clinical_ts\\.config\\.`, whose objects the file holds beside its weights. They are
    read as objects that hold nothing and do nothing."""

    head_outputs: int = 0
    """Number of outputs of the published head; needed with `first_logits`."""
    first_logits: tuple[float, ...] = ()
    """First outputs of the published model, with its head, for `reference_signals`."""
    first_features: tuple[float, ...] = ()
    """First features of the published encoder for `reference_signals`."""

    license: str = "not stated"
    """Licence of the weights, by its SPDX name if it has one."""
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""
    pretraining_data: str = ""
    """Names of the data sets that the weights were trained on."""
    ptbxl_seen: Literal["yes", "no", "unknown"] = "unknown"
    """Whether records of PTB-XL were among them, with or without labels."""
    source: str = ""
    """Where licence and pre-training data are stated."""

    TERMS: ClassVar = ("license", "noncommercial", "pretraining_data", "ptbxl_seen", "source")
    """Fields that results and boards show, see `terms`."""

    def __post_init__(self) -> None:
        ways = [bool(self.repo), bool(self.url), bool(self.page) and not (self.repo or self.url)]
        if sum(ways) != 1:
            raise PluginError("PublishedCheckpoint needs one of repo, url and page; page may stand beside the others")
        if self.withheld and not ways[2]:
            raise PluginError(f"PublishedCheckpoint of {self.where} is withheld and names a file; it takes only a page")
        if self.repo and not (self.filename and self.revision):
            raise PluginError(f"PublishedCheckpoint of {self.repo} needs filename and revision")
        if self.url and not (self.hashes and self.filename):
            raise PluginError(f"PublishedCheckpoint of {self.url} needs filename, and sha256 or md5 of the file")
        for name, digits in (("sha256", 64), ("md5", 32)):
            given = getattr(self, name)
            if given and not re.fullmatch(f"[0-9a-f]{{{digits}}}", given):
                raise PluginError(f"PublishedCheckpoint.{name} is {digits} hexadecimal digits, got {given!r}")
        for pattern in (*self.left_out, *self.inert_classes, *(old for old, _ in self.renames)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise PluginError(
                    f"PublishedCheckpoint has the pattern {pattern!r}, which is no regular expression: {error}"
                ) from None

    @property
    def hashes(self) -> dict[str, str]:
        """The hashes that are declared, by the name of their algorithm."""
        return {name: given for name, given in (("sha256", self.sha256), ("md5", self.md5)) if given}

    def mismatch(self, path: Path, file_sha256: str) -> str:
        """Return in words how the hash of a file differs from the declared one; empty if it does not, or if none is.

        `file_sha256`: the file's SHA-256, so that a large file is read once.
        """
        for name, expected in self.hashes.items():
            if (given := file_sha256 if name == "sha256" else file_hash(path, name)) != expected:
                return f"it has {name.upper().replace('SHA', 'SHA-')} {given}, expected {expected}"
        return ""

    def facts(self, file_sha256: str) -> dict[str, Any]:
        """Return what a result says of a file of these weights: `unverified` if no hash is declared."""
        where = {"repo" if self.repo else "from": self.where, "file": self.filename}
        unverified = {} if self.hashes else {"unverified": True}
        return {**where, "file_sha256": file_sha256, **unverified, "terms": self.terms()}

    @property
    def where(self) -> str:
        """Repository, address or page of the weights."""
        return self.repo or self.url or self.page

    @property
    def spelled_where(self) -> str:
        """Place of the weights as text."""
        return f"not published, see {self.page}" if self.withheld else self.where

    def renamed(self, key: str) -> str:
        """Return the name that `renames` give to a key of the file."""
        for pattern, replacement in self.renames:
            key = re.sub(f"^(?:{pattern})", replacement, key)
        return key

    def leaves_out(self, key: str) -> bool:
        """Return whether a key, after `renames`, is the head's or matches `left_out`."""
        is_head = self.head_prefix is not None and key.startswith(self.head_prefix)
        return is_head or any(re.match(pattern, key) for pattern in self.left_out)

    def inert(self, classes: Iterable[str]) -> list[str]:
        """Return those of the named classes that `inert_classes` declares."""
        return [name for name in classes if any(re.match(pattern, name) for pattern in self.inert_classes)]

    @property
    def spelled_terms(self) -> str:
        """Licence and exposure as text."""
        use = ", non-commercial use only" if self.noncommercial else ""
        data = f"; pre-trained on {self.pretraining_data}" if self.pretraining_data else ""
        return f"licence {self.license}{use}{data}; PTB-XL seen in pre-training: {self.ptbxl_seen}"

    def terms(self) -> dict[str, Any]:
        """Return what results and boards say of the weights: licence, pre-training data, whether PTB-XL was seen."""
        return {name: getattr(self, name) for name in self.TERMS}
