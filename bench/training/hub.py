"""Download published weights from the Hugging Face hub, or raise a one-line error within seconds."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import CheckpointError
from bench.files import file_sha256
from bench.training.published import PublishedCheckpoint

ANSWER_S = 10.0
"""Seconds to wait for a first answer, name resolution included. For the hub, $HF_HUB_ETAG_TIMEOUT overrides it."""
COMMIT = re.compile("[0-9a-f]{40}")


def fetch_from_hub(checkpoint: PublishedCheckpoint, init: str) -> tuple[Path, dict[str, Any]]:
    """Return the path of the published file in the hub's cache, downloaded if necessary, and facts about it.

    If the hub cannot be reached, a cached file is used. Raises CheckpointError with the reason and what to do; also if
    the file has not the declared hash, unless `init` asks for another revision.
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
    sha256 = file_sha256(path)
    if "@" not in init and (fault := checkpoint.mismatch(path, sha256)):
        raise CheckpointError(
            f"{checkpoint.filename} of {checkpoint.repo} at revision {revision} is not the published file: {fault}; "
            "--init pretrained@COMMIT takes that of a commit as it is"
        )
    commit = path.parts[-1 - len(Path(checkpoint.filename).parts)]  # the hub's cache has snapshots/COMMIT/FILENAME
    return path, {**checkpoint.facts(sha256), "commit": commit}


def _download(checkpoint: PublishedCheckpoint, revision: str) -> Path:
    """Return the file's path in the hub's cache, downloaded if necessary.

    A short request comes first, because the library would retry for 33 s without a network.
    """
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
    """Request the file's size and hash from the hub, without retries. Return the error, or None if the hub answers."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    seconds = _answer_s()

    def ask() -> None:
        url = hf_hub_url(checkpoint.repo, checkpoint.filename, revision=revision)
        get_hf_file_metadata(url, timeout=seconds)

    return answer_within(seconds, ask, (errors.HTTPError, OSError, ValueError))  # type: ignore[attr-defined]


def answer_within(seconds: float, ask: Callable[[], None], kinds: tuple[type[Exception], ...]) -> Exception | None:
    """Return the error of these kinds that `ask` raises, TimeoutError if it takes longer, or None if it succeeds.

    `ask` runs in a thread, because timeouts of connections do not limit name resolution.
    """
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            ask()
        except kinds as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError()


def _answer_s() -> float:
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return float(given) if re.fullmatch(r"\d+(\.\d+)?", given) else ANSWER_S


def _explain(error: Exception, repo: str) -> str:
    """Return what happened and what to do, as part of a message."""
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
        return f"no answer from {constants.ENDPOINT} within {_answer_s():g} s (HF_HUB_ETAG_TIMEOUT); {network}"
    message = " ".join((str(error) or type(error).__name__).split())[:150]
    return f"{constants.ENDPOINT}: {message}; {network}"


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Suppress the library's log messages within this context. The error contains the reason."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
