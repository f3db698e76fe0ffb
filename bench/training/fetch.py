"""Fetch the file of a published checkpoint: from the Hugging Face hub, or from an address with a known hash."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bench.data.cache import cache_folder
from bench.errors import CheckpointError, DataError
from bench.files import FileLock, file_sha256, move
from bench.training.hub import ANSWER_S, answer_within, fetch_from_hub
from bench.training.published import PublishedCheckpoint

FIRST_WAIT_S = 1.0
"""Seconds to wait before a broken download goes on; doubled after each further try that brings nothing."""
INSTEAD = "download the file yourself and give it with --init PATH, or use --init random"


def fetch_checkpoint(checkpoint: PublishedCheckpoint, init: str) -> tuple[Path, dict[str, Any]]:
    """Return the path of the published file, downloaded if necessary, and facts about it.

    `init` is `pretrained` or, for a file of the hub, `pretrained@REVISION`. Raises CheckpointError with what to do.
    """
    if checkpoint.repo:
        return fetch_from_hub(checkpoint, init)
    if revision := init.partition("@")[2]:
        raise CheckpointError(f"revision {revision} was asked for, but {checkpoint.where} has no revisions")
    if checkpoint.url:
        path = fetch_file(checkpoint)
        return path, checkpoint.facts(checkpoint.sha256 or file_sha256(path))
    if checkpoint.withheld:
        raise CheckpointError(
            f"the authors have not published these weights ({checkpoint.page}); give a file of theirs with "
            "--init PATH, or use --init random"
        )
    by_hand = kept_file(checkpoint, init)
    if by_hand is None:
        raise CheckpointError(
            f"{checkpoint.filename or 'the file'} cannot be fetched by a program: {place_by_hand(checkpoint)}, "
            "or give it with --init PATH; or use --init random"
        )
    sha256 = file_sha256(by_hand)
    if fault := checkpoint.mismatch(by_hand, sha256):
        raise CheckpointError(f"{by_hand} is not the published file: {fault}; {place_by_hand(checkpoint)}")
    return by_hand, checkpoint.facts(sha256)


def kept_file(checkpoint: PublishedCheckpoint, init: str) -> Path | None:
    """Return the published file if it is on this machine. Asks no server, and does not check the file."""
    if checkpoint.repo:
        from huggingface_hub import try_to_load_from_cache

        revision = init.partition("@")[2] or checkpoint.revision
        kept = try_to_load_from_cache(checkpoint.repo, checkpoint.filename, revision=revision)
        return Path(kept) if isinstance(kept, str) else None
    target = _target(checkpoint)
    return target if target and target.is_file() else None


def place_by_hand(checkpoint: PublishedCheckpoint) -> str:
    """Return what a person has to do if no program can fetch the file."""
    target, before = _target(checkpoint), f", {checkpoint.access}" if checkpoint.access else ""
    return f"download it from {checkpoint.page}{before}" + (f", to {target}" if target else "")


def _target(checkpoint: PublishedCheckpoint) -> Path | None:
    """Return the place of a file that is not on the hub; None if its name is not known."""
    if not checkpoint.filename:
        return None
    folder = next(iter(checkpoint.hashes.values())) if checkpoint.url else "by-hand"
    return cache_folder() / "weights" / folder / Path(checkpoint.filename).name


def fetch_file(checkpoint: PublishedCheckpoint) -> Path:
    """Return the file of a checkpoint with a `url` in the cache. Download it if necessary, going on where that ended.

    Raises CheckpointError if the address cannot be reached or the file has another hash.
    """
    target = _target(checkpoint)
    assert target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock").held(math.inf):
            if not target.is_file() or checkpoint.mismatch(target, file_sha256(target)):
                part = target.with_name(f"{target.name}.part")
                _download(checkpoint.url, part)
                _require_hash(part, checkpoint)
                move(part, target)
    except OSError as error:
        raise CheckpointError(
            f"could not write {target} ({error.strerror}); set BENCH_CACHE to another folder"
        ) from None
    return target


def _require_hash(part: Path, checkpoint: PublishedCheckpoint) -> None:
    """Delete the downloaded file and raise CheckpointError if its hash is not the published one."""
    if fault := checkpoint.mismatch(part, file_sha256(part)):
        part.unlink()
        raise CheckpointError(
            f"the file at {checkpoint.url} is not the published one: {fault}; it was deleted. "
            "Try again; if it happens twice, the file was changed, and the backbone's PublishedCheckpoint must follow"
        )


def _download(url: str, part: Path) -> None:
    """Download the bytes that `part` lacks, with a progress bar. Raises CheckpointError with what to do instead."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from bench.data.connection import Downloader

    _require_answer(url)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, Downloader(INSTEAD, FIRST_WAIT_S) as downloader:
        bar = progress.add_task(part.stem, total=None)
        try:
            downloader.rest(url, part, lambda done, size: progress.update(bar, completed=done, total=size))
        except DataError as error:
            raise CheckpointError(f"could not get {error}") from None


def _require_answer(url: str) -> None:
    """Raise CheckpointError if the address gives no answer within `ANSWER_S`, whatever takes the time."""
    import httpx

    def ask() -> None:
        with httpx.stream("GET", url, timeout=ANSWER_S, follow_redirects=True):
            pass

    error = answer_within(ANSWER_S, ask, (httpx.HTTPError,))
    if error is not None:
        raise CheckpointError(f"could not get {url}: {_reason(error)}; check the network and HTTPS_PROXY; or {INSTEAD}")


def _reason(error: Exception) -> str:
    import httpx

    if isinstance(error, TimeoutError | httpx.ConnectTimeout):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(error, httpx.TimeoutException):
        return "no byte came for a while"
    return " ".join(str(error).split())[:150] or type(error).__name__
