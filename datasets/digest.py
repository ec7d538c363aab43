"""The content of a file, known by its hash."""

from hashlib import file_digest
from pathlib import Path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
