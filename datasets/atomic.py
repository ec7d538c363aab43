"""Files that appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``; what is written there takes its place on success.

    Its name ends as that of ``path`` does, for those who go by suffixes. It is flushed to disk before it is renamed,
    and removed if the body raises: ``path`` then holds what it held before.
    """
    path = Path(path)
    aside = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        fsync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) to ``path``, which holds either what it held before or all of ``data``."""
    with atomic_path(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)


def fsync_folder(folder: Path) -> None:
    """Make the creation, renaming and removal of files in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
