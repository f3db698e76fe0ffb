"""Initialise, load and save weights: random, from a published checkpoint, or from a file.

Files are read without running code from them. All keys and shapes must fit, and tensors that are not used are named.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import CheckpointError, first_line
from bench.files import file_sha256, open_file, whole_file
from bench.training.fetch import fetch_checkpoint
from bench.training.model import Backbone, Classifier, first_keys
from bench.training.published import PublishedCheckpoint

WEIGHTS = "weights.pt"
OWN = re.compile("own:[0-9a-f]{8}")
"""What boards call the weights that a run left."""
NO_WEIGHTS = "is not a file of weights, or it is damaged or incomplete"
"""Message for all errors of torch that mean a bad file."""
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types of weights. Others, such as 8-bit integers, are quantised and mean nothing without their scale."""
FAULTS_OF_FILES = (
    *(AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, OverflowError),
    *(RuntimeError, TypeError, ValueError, struct.error),
)
"""What torch.load raises for damaged files beside UnpicklingError: it takes what is in the file for what it wrote."""


INHERITED = ("repo", "from", "terms", "unverified", "before")
"""Facts about published weights that go with all weights that were trained from them. `before`: what else they were
trained on before the run that left them, as in `trained_on`, with "; " between."""


@dataclass(frozen=True)
class Init:
    """The initial weights of a backbone, as results and boards name them."""

    name: str
    """`random`, `pretrained`, or the first 8 digits of the hash: `own:01234567` for a file that a run of this program
    has written, `file:01234567` for any other."""
    sha256: str = ""
    """SHA-256 over names, shapes and values of the loaded weights."""
    source: str = ""
    left_out: tuple[str, ...] = ()
    """Keys of the file that are not used, such as its head."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """`own:`: the run that left the file; `pretrained`: repository, file, hash; `file:`: name and hash of the file, and
    `read_as`, how its keys were read. Also `terms` of published weights: of this file, of those that the run started
    from, or of those that a `file:` may be. `unverified`: no declared hash says that it is the published file."""
    head: Mapping[str, Tensor] = field(default_factory=dict, compare=False)
    """Tensors of the head that was left out, such as `weight`."""

    def recorded(self) -> dict[str, Any]:
        """Return plain data for the result; with shapes and hash of the published head, if a method uses it."""
        head = {"head": {key: list(value.shape) for key, value in self.head.items()}} if self.head else {}
        hashed = {"head_sha256": hash_weights(self.head)} if self.head else {}
        plain = {"name": self.name, "sha256": self.sha256, "source": self.source}
        return {**plain, "left_out": list(self.left_out), "facts": dict(self.facts), **head, **hashed}


def names_published(init: str) -> bool:
    """Return whether `init` is `pretrained` or `pretrained@REVISION`."""
    return init.partition("@")[0] == "pretrained"


def wants_published(backbone: Backbone, init: str | None) -> bool:
    """Return whether `init` means published weights, by name or by default."""
    return names_published(init) if init else backbone.checkpoint is not None and not backbone.checkpoint.withheld


def initialize(backbone: Backbone, init: str | None) -> Init:
    """Load `init` into the backbone: `pretrained`, `pretrained@REVISION`, `random`, a file, or a finished run's folder.

    None means `pretrained` if the backbone has a published checkpoint that is not withheld, else `random`.
    """
    if wants_published(backbone, init):
        if backbone.checkpoint is None:
            raise CheckpointError(f"{type(backbone).__name__} has no published checkpoint; use --init random or a file")
        path, facts = fetch_checkpoint(backbone.checkpoint, init or "pretrained")
        return load_backbone(backbone, path, name="pretrained", facts=facts)
    if not init or init == "random":
        return Init("random", hash_weights(backbone.state_dict()))
    path = Path(init)
    if not path.exists():
        if OWN.fullmatch(init):
            raise CheckpointError(
                f"no file of weights at {init}: boards name weights so that a run left; give that run's folder or its "
                f"{WEIGHTS}, or one of the starts/*.pt that the leaderboards folder keeps"
            )
        near = difflib.get_close_matches(init, ("pretrained", "random"), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(f"no file of weights at {init}.{hint} Expected: pretrained, random, a file or a run")
    return load_backbone(backbone, path / WEIGHTS if path.is_dir() else path)


def load_backbone(backbone: Backbone, path: Path, name: str = "", facts: Mapping[str, Any] = {}) -> Init:
    """Load a file strictly: all keys and shapes must fit, and all values must be finite."""
    states, about = read_state_dicts(path, backbone.checkpoint)
    reading = _choose_reading(states, backbone, path, about)
    state = states[reading.where]
    _require_finite(reading.weights, backbone.state_dict(), path)
    backbone.load_state_dict(reading.weights)
    sha256 = hash_weights(backbone.state_dict())
    if not name:
        name, facts = _origin(backbone, path, about, reading)
        name += f":{sha256[:8]}" if name != "pretrained" else ""
    left_out = tuple(state.key_of[key] for key in reading.left_out)
    return Init(name, sha256, path.name, left_out, facts, _head_tensors(backbone, state, reading.prefix))


def _head_tensors(backbone: Backbone, state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of the head in a file's state dict, such as `weight`; empty if the file has no head.

    Their keys begin with `head.`, before or after the backbone's `prefix`, or as the published head's do, after what
    wraps the published prefix, such as `module.`.
    """
    begins = [f"{prefix}head.", "head."]
    if (published := backbone.checkpoint) and published.head_prefix:
        begins = [prefix.removesuffix(published.prefix) + published.head_prefix, *begins]
    for begin in begins:
        if head := {key.removeprefix(begin): value for key, value in state.items() if key.startswith(begin)}:
            return head
    return {}


def load_published(model: Classifier, path: Path) -> None:
    """Load a published checkpoint strictly, its head included."""
    published = model.backbone.checkpoint
    assert published is not None
    states, about = read_state_dicts(path, published)
    reading = _choose_reading(states, model.backbone, path, about)
    wrapper = reading.prefix.removesuffix(published.prefix)
    named = {f"backbone.{key}": value for key, value in reading.weights.items()}
    for key in model.head.state_dict():
        if (given := f"{wrapper}{published.head_prefix or ''}{key}") in states[reading.where]:
            named[f"head.{key}"] = states[reading.where][given]
    check_weights(named, model.state_dict(), path)
    model.load_state_dict(named)


@dataclass(frozen=True)
class _Reading:
    """A way to map the tensors of a file to the weights of a backbone."""

    where: str
    """Keys of the state dict within the file, joined by dots; empty if the file is the state dict."""
    prefix: str
    """Prefix of the backbone's keys."""
    num_matching: int
    weights: dict[str, Tensor]
    """The backbone's key -> tensor."""
    left_out: tuple[str, ...]
    unknown: tuple[str, ...]
    """Other keys that are not known to be unused."""

    def __str__(self) -> str:
        return "keys" + f" under {self.where!r}" * bool(self.where) + f" after {self.prefix!r}" * bool(self.prefix)


def _choose_reading(
    states: Mapping[str, StateDict], backbone: Backbone, path: Path, about: Mapping[str, Any]
) -> _Reading:
    """Return the only mapping with which all keys and shapes fit. Raises CheckpointError if there is none, or several.

    Training programs add prefixes to keys (`module.`, `_orig_mod.`, `model.backbone.`) and put state dicts under names
    (`model`, `teacher`, `ema`). A reading takes all keys of the backbone from one state dict, with one prefix.
    """
    wanted, published = backbone.state_dict(), backbone.checkpoint
    readings = [reading for where in states for reading in _readings(where, states[where], backbone)]
    fitting = [reading for reading in readings if not _faults(reading.weights, wanted, reading.unknown)]
    if published and (published.state_dict or published.prefix):
        declared = [
            reading
            for reading in fitting
            if (reading.where, reading.prefix) == (published.state_dict, published.prefix)
        ]
        fitting = declared or fitting
    if not fitting:
        nearest = max(readings, key=lambda reading: (reading.num_matching, len(states[reading.where])))
        key_of = states[nearest.where].key_of
        unknown = tuple(key_of[key] for key in nearest.unknown)
        fault = _faults(nearest.weights, wanted, unknown, nearest.prefix)[0]
        raise CheckpointError(
            f"{path} does not fit the backbone: it {fault}; the file has {_first_three(key_of.values())}, the "
            f"backbone expects {_first_three(wanted)}; {_advice(about)}"
        )
    # several readings are an error only if their weights differ, as those of `model` and `ema` do
    if any(not are_equal(reading.weights, fitting[0].weights) for reading in fitting[1:]):
        raise CheckpointError(
            f"{path} holds several weights that fit the backbone: {'; '.join(map(str, fitting[:4]))}; save the right "
            "ones to a separate file, or name them by state_dict and prefix in the backbone's "
            "PublishedCheckpoint"
        )
    return fitting[0]


def _advice(about: Mapping[str, Any]) -> str:
    """Return advice on a weights file that does not fit; `about` has a digest if a run of this program wrote it."""
    if not isinstance(about.get("digest"), str):
        declared = "state_dict, prefix, head_prefix and left_out"
        return f"the backbone's PublishedCheckpoint says with {declared} how a file is to be read"
    named = re.search(r"""--method ("[^"\n]*"|'[^'\n]*'|\S+)""", str(about.get("command")))
    method = f"method {named[1]:.80}" if named else "method"
    if arch := re.search(r"""--arch ("[^"\n]*"|'[^'\n]*'|\S+)""", str(about.get("command"))):
        return (
            f"the file is of {arch[1]:.80}, and a run by {method} left it; take the weights of a run of this backbone "
            "by a method that does not alter it, such as ft"
        )
    return (
        f"a run left the file, whose {method} altered the backbone, or whose backbone was another; take the weights of "
        "a run of this backbone by a method that does not alter it, such as ft"
    )


def _readings(where: str, state: Mapping[str, Tensor], backbone: Backbone) -> Iterator[_Reading]:
    """Yield the readings of a state dict that have all keys, else the one that has most of them.

    Of the keys of a tied tensor one is enough: safetensors keep no more.
    """
    wanted, published = backbone.state_dict(), backbone.checkpoint
    first = first_keys(wanted)
    num_tensors = len(set(first.values()))
    prefixes: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        prefixes.update("".join(f"{part}." for part in parts[:at]) for at in _places(parts, wanted))
    if published and published.prefix:  # the prefix may end without a dot
        prefixes[published.prefix] = sum(published.prefix + key in state for key in wanted)
    whole = [prefix for prefix, num in prefixes.items() if num >= num_tensors]
    for prefix in whole or [prefix for prefix, _ in prefixes.most_common(1)] or [""]:
        left_out, unknown = _beside(state, prefix, backbone)
        given = {key: state[prefix + key] for key in wanted if prefix + key in state}
        of_tensor = {first[key]: value for key, value in reversed(given.items())}
        tied = {key: of_tensor[first[key]] for key in wanted if key not in given and first[key] in of_tensor}
        yield _Reading(where, prefix, len(given), {**given, **tied}, left_out, unknown)


def _places(parts: list[str], wanted: Mapping[str, Tensor]) -> list[int]:
    """Return the positions in a split key at which a key of the backbone may begin."""
    return [at for at in range(len(parts)) if ".".join(parts[at:]) in wanted]


def _beside(state: Mapping[str, Tensor], prefix: str, backbone: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return two lists of keys that the backbone lacks: keys to leave out, and unknown keys.

    A head and keys that the published checkpoint declares are left out. Keys without the prefix belong to other modules
    in the file, such as a decoder, and are left out too. But if the published checkpoint declares some of these keys,
    the others are unknown.
    """
    wanted, published = backbone.state_dict(), backbone.checkpoint
    declared = bool(published and (published.head_prefix or published.left_out))
    strict, wrapper = True, prefix
    if published and published.prefix and declared and prefix.endswith(published.prefix):
        wrapper = prefix.removesuffix(published.prefix)
    elif prefix:
        strict = False
    left_out, unknown = list[str](), list[str]()
    for key in state:
        if key.startswith(prefix) and key.removeprefix(prefix) in wanted:
            continue
        inside = key.startswith(prefix)
        of_head = key.startswith(f"{prefix}head.")
        named = published is not None and key.startswith(wrapper) and published.leaves_out(key.removeprefix(wrapper))
        (left_out if of_head or named or not (inside or strict) else unknown).append(key)
    return tuple(left_out), tuple(unknown)


def are_equal(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Return whether the second state dict has the values of the first."""
    return all(torch.equal(value, others[key]) for key, value in weights.items())


def _origin(
    backbone: Backbone, path: Path, about: Mapping[str, Any], reading: _Reading
) -> tuple[str, Mapping[str, object]]:
    """Return the origin of a file of weights (`own`, `pretrained` or `file`), and facts about the file."""
    facts = {key: about[key] for key in ("digest", "trained_on", "command", "labels") if key in about}
    texts = [facts.get("digest"), facts.get("trained_on"), facts.get("command") or ""]
    labels = facts.get("labels", [])
    if isinstance(labels, list) and all(isinstance(text, str) for text in [*texts, *labels]):
        return "own", {**facts, **_inherited(about)}
    published = backbone.checkpoint
    sha256 = file_sha256(path)
    if published and published.hashes and not published.mismatch(path, sha256):
        return "pretrained", published.facts(sha256)
    maybe = {"terms": published.terms(), "unverified": True} if published else {}
    return "file", {"file": path.name, "file_sha256": sha256, "read_as": str(reading), **maybe}


def _inherited(about: Mapping[str, Any]) -> dict[str, object]:
    """Return the facts about published weights in `about`; what is of another kind is left out."""
    known = {key: about[key] for key in INHERITED if isinstance(about.get(key), str | bool)}
    terms = about.get("terms")
    if isinstance(terms, dict) and all(isinstance(value, str | bool) for value in terms.values()):
        known["terms"] = {key: terms[key] for key in PublishedCheckpoint.TERMS if key in terms}
    return known


def save_weights(model: Classifier, path: Path, about: Mapping[str, Any]) -> None:
    """Write the weights of the whole model, with plain data `about` their origin."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    try:
        with whole_file(path) as stream:
            torch.save({"state_dict": state, "about": dict(about)}, stream)
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"could not write {path} ({reason}); free some space and give the command again"
        ) from None


def load_classifier(model: Classifier, path: Path) -> None:
    """Load a file of `save_weights` strictly."""
    weights, _ = read_weights(path)
    check_weights(weights, model.state_dict(), path)
    model.load_state_dict(weights)


def check_weights(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError with the first keys if names or shapes differ or values are not finite."""
    surplus = tuple(key for key in given if key not in wanted)
    for fault in _faults(given, wanted, surplus):
        raise CheckpointError(f"{path} does not fit the backbone: it {fault}")
    _require_finite(given, wanted, path)


def _faults(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], surplus: tuple[str, ...], prefix: str = ""
) -> list[str]:
    """Return the faults of names and shapes. `prefix` is added to the keys in the messages, as in the file."""
    missing = [prefix + key for key in wanted if key not in given]
    misshapen = [
        f"{prefix}{key} {list(given[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    kinds = ((missing, "lacks"), (surplus, "has unknown"), (misshapen, "has misshapen"))
    return [f"{fault} {len(keys)} of its keys: {_first_three(keys)}" for keys, fault in kinds if keys]


def _first_three(keys: Iterable[str]) -> str:
    first = list(islice(keys, 4))
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")


def _require_finite(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError with the name of a tensor that has NaN or infinite values.

    Infinities that a new backbone also has, as in an attention mask, are allowed. Raises it too for a tensor whose type
    would lose its values: load_state_dict casts without a word, complex numbers and 8-bit integers included.
    """
    for key, built in wanted.items():
        value = given[key]
        if built.is_floating_point() and value.dtype not in FLOATS:
            raise CheckpointError(
                f"{path}: {key} is of type {_type_of(value)}, expected one of {', '.join(map(_name_of, FLOATS))}; "
                "save the weights as they were trained, not quantised"
            )
        cast = value.to(built.dtype)
        if not built.is_floating_point() and not torch.equal(cast.to(value.dtype), value):
            raise CheckpointError(f"{path}: {key} has values that are no {_type_of(built)}, but {_type_of(value)}")
        num_bad = int((~cast.isfinite() & built.to(cast.device).isfinite()).sum())
        if num_bad:
            raise CheckpointError(
                f"{path} holds weights that are not finite: {num_bad:,} of {value.numel():,} values of {key} are NaN "
                "or infinite; take a checkpoint from before its training diverged"
            )


def _type_of(value: Tensor) -> str:
    """Return the type of a tensor in words: that of its values, and what keeps it from being read as plain numbers."""
    kinds = {"quantised": value.is_quantized, "without values": value.is_meta, "sparse": value.layout != torch.strided}
    return " ".join([*(word for word, applies in kinds.items() if applies), _name_of(value.dtype)])


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint file by name, and the facts in `about`, see `save_weights`."""
    states, about = read_state_dicts(path)
    return states.get("state_dict") or next(iter(states.values())), about


class StateDict(dict[str, Tensor]):
    """Tensors of a file by name, after the renames of its published checkpoint."""

    def __init__(self, state: Mapping[str, Tensor], published: PublishedCheckpoint | None) -> None:
        """Raises ValueError if the renames give tensors that differ one name."""
        super().__init__()
        self.key_of: dict[str, str] = {}
        """Name -> key of the file."""
        for key, value in state.items():
            name = published.renamed(key) if published else key
            if name in self and not torch.equal(value, self[name]):
                raise ValueError(f"renames give {self.key_of[name]} and {key} one name, {name}")
            self.setdefault(name, value)
            self.key_of.setdefault(name, key)


def read_state_dicts(
    path: Path, published: PublishedCheckpoint | None = None
) -> tuple[dict[str, StateDict], dict[str, Any]]:
    """Return the state dicts in a checkpoint file (keys joined by dots -> tensors by name), and the facts in `about`.

    The published checkpoint says which keys are renamed and which classes are inert. Runs no code from the file.
    Raises CheckpointError if it is missing, damaged, or holds more than plain data and inert classes.
    """
    is_safetensors = path.suffix == ".safetensors"
    document = _read_safetensors(path) if is_safetensors else _read_document(path, published)
    found = dict(_state_dicts(document))
    if not found:
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, alone or under 'state_dict'")
    for state in found.values():
        for key, value in state.items():
            if value.is_quantized or value.is_meta or value.layout != torch.strided:
                raise CheckpointError(f"{path}: {key[:80]!a} is {_type_of(value)}, expected a dense tensor of numbers")
    is_own = isinstance(document, Mapping) and "about" in document  # see save_weights: its keys need no new names
    try:
        states = {where: StateDict(state, None if is_own else published) for where, state in found.items()}
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit its PublishedCheckpoint: {error}") from None
    about = document.get("about") if isinstance(document, Mapping) else None
    return states, dict(about) if isinstance(about, Mapping) else {}


def _state_dicts(document: object, where: str = "", depth: int = 2) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state dicts of a document and of mappings in it, two levels deep. Deeper ones belong to optimisers."""
    if not isinstance(document, Mapping):
        return
    if state := {str(key): value for key, value in document.items() if isinstance(value, Tensor)}:
        yield where, state
    for key, value in document.items() if depth else ():
        yield from _state_dicts(value, f"{where}.{key}" if where else str(key), depth - 1)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_file(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError):
        raise CheckpointError(f"{path} {NO_WEIGHTS}") from None


def _require_file(path: Path) -> None:
    try:
        with open_file(path):
            pass
    except FileNotFoundError:
        raise CheckpointError(f"no file of weights at {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not a file of weights, {error.strerror}") from None


class _Inert:
    """Stands for a class that a file names and weights do not need: accepts any content, keeps none, does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _read_document(path: Path, published: PublishedCheckpoint | None = None) -> object:
    """Read a file of torch.save without running code.

    NumPy scalars beside the weights (ECGFounder's file carries one) are allowed, and classes that the published
    checkpoint declares as inert; anything else that is not plain data is refused.
    """
    number_types = [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed = [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *number_types]
    _require_file(path)
    try:
        if published and published.inert_classes:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            allowed += [(_Inert, name) for name in published.inert(named)]
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            # protocols above 2 are read as far as torch can, and refused below where it cannot
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (beyond := re.search(r"GLOBAL (\S+)", str(error))):
            raise CheckpointError(f"{path} {NO_WEIGHTS}") from None
        raise CheckpointError(
            f"{path} was not loaded: it holds more than weights, {beyond[1]}, and loading that could run code"
        ) from None
    except FAULTS_OF_FILES:
        raise CheckpointError(f"{path} {NO_WEIGHTS}") from None


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Return SHA-256 over names, types, shapes and values, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def published_file(checkpoint: PublishedCheckpoint, init: str) -> Path:
    """Return the file that `pretrained`, `pretrained@REVISION` or a path names."""
    return fetch_checkpoint(checkpoint, init)[0] if names_published(init) else Path(init)
