"""The errors that a user sees as one to three lines and an exit status, never as a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class CuratorError(Exception):
    """The input was good, the work failed: exit status 1."""

    exit_status = 1


class BadInput(CuratorError, ValueError):
    """Something the user gave cannot be used; the message names it, its place and the remedy: exit status 2."""

    exit_status = 2


@contextmanager
def bad_input(key: str = "") -> Iterator[None]:
    """Turn what lower floors say of bad values into :class:`BadInput`, under the ``key`` that they were given by."""
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, CuratorError) or is_disk_full(error):
            raise
        raise BadInput(f"{key}: {error}" if key else str(error)) from error
