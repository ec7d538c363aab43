"""Text files, also compressed ones."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""By the end of the name; anything else is read as it is."""


def open_text(path: Path, errors: str = "strict") -> TextIO:
    """Open a text file for reading, decompressed if its name says that it is compressed."""
    return cast(TextIO, OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", errors=errors))


def read_text(path: Path) -> str:
    """Read the output of a program; bytes that are no UTF-8, as in names of hosts, do not matter."""
    with open_text(path, errors="replace") as file:
        return file.read()
