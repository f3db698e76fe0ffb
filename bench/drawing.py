"""The style of a picture, for all that draws by matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def styled(style: dict[Any, Any]) -> Iterator[None]:
    """Draw in this style of matplotlib's rcParams, without a warning for each character that its fonts lack.

    A reader of an SVG has fonts of their own; in PDF and PNG such a character is a box.
    """
    import matplotlib as mpl  # takes 0.4 s, which boards without a new picture need not wait for

    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield
