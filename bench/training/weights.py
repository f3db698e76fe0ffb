"""Where a model's weights come from: random, a published checkpoint, or a file; and how they are written.

Nothing is unpickled that could run code, every key and shape must fit, and what is left out is named.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import CheckpointError
from bench.training.model import Backbone, Classifier, PublishedCheckpoint

WEIGHTS = "weights.pt"
NO_WEIGHTS = "is not a file of weights, or it is damaged or incomplete"
"""What torch's many ways to fail on a file come to."""


@dataclass(frozen=True)
class Init:
    """What a backbone's weights started from, as the result and the board say it."""

    name: str
    """`random`, `pretrained`, or `own:` and the first 8 digits of the hash."""
    sha256: str = ""
    """SHA-256 of the weights that were loaded: names, shapes and values."""
    source: str = ""
    left_out: tuple[str, ...] = ()
    """Keys of the file that the backbone did not take, such as its head."""
    facts: Mapping[str, object] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of the head that was left out, such as `weight`."""

    def recorded(self) -> dict[str, Any]:
        """Return what a result says; the head by shapes and hash, where a method uses it."""
        head = {"head": {key: list(value.shape) for key, value in self.head.items()}} if self.head else {}
        hashed = {"head_sha256": hash_weights(self.head)} if self.head else {}
        plain = {"name": self.name, "sha256": self.sha256, "source": self.source}
        return {**plain, "left_out": list(self.left_out), "facts": dict(self.facts), **head, **hashed}


def names_published(init: str) -> bool:
    """Whether it is `pretrained` or `pretrained@REVISION`."""
    return init.partition("@")[0] == "pretrained"


def wants_published(backbone: Backbone, init: str | None) -> bool:
    """Whether these are first weights to be fetched, by name or because there are some."""
    return names_published(init) if init else backbone.checkpoint is not None


def initialize(backbone: Backbone, init: str | None) -> Init:
    """Load `init` into the backbone: `pretrained`, `pretrained@REVISION`, `random`, a file, or a finished run's folder.

    None is `pretrained` where the backbone has a published checkpoint, else `random`.
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
        near = difflib.get_close_matches(init, ("pretrained", "random"), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(f"no file of weights at {init}.{hint} Expected: pretrained, random, a file or a run")
    return load_backbone(backbone, path / WEIGHTS if path.is_dir() else path)


def load_backbone(backbone: Backbone, path: Path, name: str = "", facts: Mapping[str, Any] = {}) -> Init:
    """Load a file strictly: all keys and shapes of the backbone, and no others but the head's, which are left out."""
    weights, about = read_weights(path)
    prefix, others = _naming(weights, backbone)
    left_out = tuple(key for key in weights if key.startswith(others))
    own = {key: value for key, value in weights.items() if not key.startswith(others)}
    check_weights(own, {prefix + key: value for key, value in backbone.state_dict().items()}, path)
    backbone.load_state_dict({key.removeprefix(prefix): value for key, value in own.items()})
    sha256 = hash_weights(backbone.state_dict())
    of_head = tuple(key for key in left_out if key.startswith(_head_prefix(backbone, left_out)))
    head = {key.removeprefix(_head_prefix(backbone, left_out)): weights[key] for key in of_head}
    return Init(name or f"own:{sha256[:8]}", sha256, path.name, left_out, facts or about, head)


def _head_prefix(backbone: Backbone, left_out: Sequence[str]) -> str:
    """How the keys of the head begin in a file: ours, or the published one's."""
    published = backbone.checkpoint.head_prefix if backbone.checkpoint else None
    return published if published and any(key.startswith(published) for key in left_out) else "head."


def load_published(model: Classifier, path: Path) -> None:
    """Load a published checkpoint strictly, its head included."""
    weights, _ = read_weights(path)
    published = model.backbone.checkpoint
    assert published is not None
    ours = {published.prefix + key: f"backbone.{key}" for key in model.backbone.state_dict()}
    ours |= {f"{published.head_prefix or ''}{key}": f"head.{key}" for key in model.head.state_dict()}
    named = {
        ours.get(key, key): v for key, v in weights.items() if key in ours or not key.startswith(published.left_out)
    }
    check_weights(named, model.state_dict(), path)
    model.load_state_dict(named)


def _naming(weights: Mapping[str, Tensor], backbone: Backbone) -> tuple[str, tuple[str, ...]]:
    """How the backbone's keys begin in a file, and those left out; the file is ours, the published one, or bare."""
    ours = any(f"backbone.{key}" in weights for key in backbone.state_dict())
    if ours and all(key.startswith(("backbone.", "head.")) for key in weights):
        return "backbone.", ("head.",)
    if published := backbone.checkpoint:
        others = tuple(filter(None, (published.head_prefix, *published.left_out)))
        if any(key.startswith((*others, *filter(None, [published.prefix]))) for key in weights):
            return published.prefix, others
    return "", ("head.",)


def save_weights(model: Classifier, path: Path, about: Mapping[str, Any]) -> None:
    """Write the whole model's weights, with plain facts about where they come from."""
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    try:
        torch.save({"state_dict": state, "about": dict(about)}, path)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"could not write {path} ({reason}); free some space and give the command again"
        ) from None


def load_classifier(model: Classifier, path: Path) -> None:
    """Load what `save_weights` wrote, strictly."""
    weights, _ = read_weights(path)
    check_weights(weights, model.state_dict(), path)
    model.load_state_dict(weights)


def check_weights(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError, naming the first keys, where names or shapes differ."""
    missing = [key for key in wanted if key not in given]
    surplus = [key for key in given if key not in wanted]
    misshapen = [
        f"{key} {list(given[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    for keys, fault in ((missing, "lacks"), (surplus, "has unknown"), (misshapen, "has misshapen")):
        if keys:
            shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise CheckpointError(f"{path} does not fit the backbone: it {fault} {len(keys)} of its keys: {shown}")


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint file by name, and its facts `about` itself; runs no code from the file.

    NumPy scalars beside the weights (ECGFounder's file carries one) are allowed; anything else that is not plain
    data is refused.
    """
    number_types = [np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed = [np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *number_types]
    try:
        with path.open("rb"):  # torch says of a missing .safetensors what it says of a damaged one
            pass
    except FileNotFoundError:
        raise CheckpointError(f"no file of weights at {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not a file of weights, {error.strerror}") from None
    try:
        with torch.serialization.safe_globals(allowed):
            document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (beyond := re.search(r"GLOBAL (\S+)", str(error))):
            raise CheckpointError(f"{path} {NO_WEIGHTS}") from None
        raise CheckpointError(
            f"{path} was not loaded: it holds more than weights, {beyond[1]}, and loading that could run code"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        missing = "safetensors is not installed" in str(error)
        why = "is read by the package safetensors, which is not installed" if missing else NO_WEIGHTS
        raise CheckpointError(f"{path} {why}") from None
    weights, about = document, {}
    if isinstance(document, Mapping) and isinstance(document.get("state_dict"), Mapping):
        weights, about = document["state_dict"], document.get("about", {})
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, alone or under 'state_dict'")
    facts = dict(about) if isinstance(about, Mapping) else {}
    return {str(key).removeprefix("module."): value for key, value in weights.items()}, facts


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def published_file(checkpoint: PublishedCheckpoint, init: str) -> Path:
    """The file that `pretrained`, `pretrained@REVISION` or a path stands for."""
    return fetch_checkpoint(checkpoint, init)[0] if names_published(init) else Path(init)


def fetch_checkpoint(checkpoint: PublishedCheckpoint, init: str) -> tuple[Path, dict[str, Any]]:
    """The published file from the hub's cache, downloaded with a progress bar if need be, and facts about it."""
    from huggingface_hub import errors, hf_hub_download

    revision = init.partition("@")[2] or checkpoint.revision
    try:
        path = Path(hf_hub_download(checkpoint.repo, checkpoint.filename, revision=revision))
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        raise CheckpointError(
            f"could not get {checkpoint.filename} of {checkpoint.repo} at revision {revision} from the Hugging Face "
            f"hub ({type(error).__name__}); give a downloaded file with --init PATH, or use --init random"
        ) from None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return path, {
        "repo": checkpoint.repo,
        "file": checkpoint.filename,
        "commit": path.parts[path.parts.index("snapshots") + 1],  # where the hub's cache keeps a file
        "file_sha256": sha256,
    }
