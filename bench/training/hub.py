"""Fetch published weights from the Hugging Face hub, or say within seconds and in one line why they cannot be had."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import CheckpointError
from bench.training.model import PublishedCheckpoint

ANSWER_S = 2.0
"""Seconds that the hub has to answer a first question, name resolution included; $HF_HUB_ETAG_TIMEOUT replaces it."""
COMMIT = re.compile("[0-9a-f]{40}")


def fetch_checkpoint(checkpoint: PublishedCheckpoint, init: str) -> tuple[Path, dict[str, Any]]:
    """The published file from the hub's cache, downloaded with a progress bar if need be, and facts about it.

    Raises CheckpointError with the reason and what to do. A file in the cache is taken where the hub is out of reach.
    """
    from huggingface_hub import errors

    revision = init.partition("@")[2] or checkpoint.revision
    try:
        with _quiet_library():
            path = _download(checkpoint, revision)
    except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
        raise CheckpointError(
            f"could not get {checkpoint.filename} of {checkpoint.repo} at revision {revision} from the Hugging Face "
            f"hub: {_explain(error, checkpoint.repo)}; or give a downloaded file with --init PATH, or use --init random"
        ) from None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return path, {
        "repo": checkpoint.repo,
        "file": checkpoint.filename,
        "commit": path.parts[path.parts.index("snapshots") + 1],  # where the hub's cache keeps a file
        "file_sha256": sha256,
    }


def _download(checkpoint: PublishedCheckpoint, revision: str) -> Path:
    """The file's path in the hub's cache. The hub is asked once first: the library itself would retry for 33 s."""
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    repo, name = checkpoint.repo, checkpoint.filename
    kept = try_to_load_from_cache(repo, name, revision=revision)
    if COMMIT.fullmatch(revision) and isinstance(kept, str):
        return Path(kept)  # a commit does not change
    if failure := _why_out_of_reach(checkpoint, revision):
        if isinstance(failure, errors.RevisionNotFoundError | errors.EntryNotFoundError) or not isinstance(kept, str):
            raise failure
        return Path(kept)  # not by hf_hub_download(local_files_only=True), which asks the hub for a list, and waits 3 s
    return Path(hf_hub_download(repo, name, revision=revision))


def _why_out_of_reach(checkpoint: PublishedCheckpoint, revision: str) -> Exception | None:
    """Ask the hub for the file's size and hash, without retries; what went wrong, or None.

    The question is asked in a thread, because no timeout of a connection limits the resolution of a name.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    seconds = _answer_s()
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            url = hf_hub_url(checkpoint.repo, checkpoint.filename, revision=revision)
            get_hf_file_metadata(url, timeout=seconds)
        except (errors.HTTPError, OSError, ValueError) as error:  # type: ignore[attr-defined]
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError()


def _answer_s() -> float:
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(given) if re.fullmatch(r"\d+(\.\d+)?", given) else ANSWER_S


def _explain(error: Exception, repo: str) -> str:
    """What happened and what to do, for the middle of a line."""
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, and the file is not in {constants.HF_HUB_CACHE}; unset it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no such revision; see {page}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"it has no such file; see {page}"
    if isinstance(error, errors.GatedRepoError):
        return f"the repository is open only to those who accept its terms at {page}; do so and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return f"it has no repository of that name, or a private one (HTTP {status}); set HF_TOKEN if it is private"
    if status is not None:
        return f"it answered HTTP {status}; try again later"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return f"{error.strerror} in {constants.HF_HUB_CACHE}; set HF_HUB_CACHE to another folder"
    network = "check the network and HTTPS_PROXY, or set HF_ENDPOINT to a mirror"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return f"no answer from {constants.ENDPOINT} within {_answer_s():g} s; {network}"
    words = " ".join((str(error) or type(error).__name__).split())[:150]
    return f"{constants.ENDPOINT}: {words}; {network}"


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """What the library logs while it retries is not shown: the error says it in one line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
