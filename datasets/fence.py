"""One driver at a time: a lock that dies with its holder, and a token that outlives it."""

import fcntl
import json
import os
import socket
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from curator.datasets.atomic import write_atomically

LOCK_NAME = "driver.lock"
TOKEN_NAME = "driver.token"
PATIENCE_S = 0.5
"""A lock that is held for longer is a driver's."""

_held: "weakref.WeakSet[Fence]" = weakref.WeakSet()


class DriverError(RuntimeError):
    """Another driver runs, or a newer one has taken over."""


class Fence:
    """The right to change a campaign folder, held by at most one driver.

    Attributes
    ----------
    folder
        The campaign folder.
    token
        Number of this driver, larger than that of every driver before it.
    """

    def __init__(self, folder: Path, token: int, descriptor: int) -> None:
        self.folder = folder
        self.token = token
        self._descriptor: int | None = descriptor
        _held.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Raise DriverError unless this driver is still the newest one and has not released the lock."""
        if self._descriptor is None:
            raise DriverError(f"{self.folder}: this driver (token {self.token}) has released its lock")
        newest = _read_token(self.folder / TOKEN_NAME)
        if newest != self.token:
            raise DriverError(
                f"{self.folder}: driver {newest} has taken over from this one (driver {self.token}); "
                "nothing was written, and this process should end"
            )

    def release(self) -> None:
        """Let the next driver in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def acquire(folder: Path | str) -> Fence:
    """Become the driver of a campaign folder.

    The lock is the kernel's (``flock``): it goes away with the process, however that ends, and a child made by
    ``fork`` does not keep it. The token is written durably before this returns.

    Raises
    ------
    DriverError
        If another driver is alive; the text names its host and process.
    ValueError
        If the file system cannot lock, or the token file is damaged.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise DriverError(f"{folder}: another driver is running{_holder(path)}; stop it or wait for it") from None
        except OSError as error:
            raise ValueError(
                f"{path}: this file system cannot lock files ({error.strerror}); put the campaign on one that can"
            ) from error
        token = _read_token(folder / TOKEN_NAME) + 1
        write_atomically(folder / TOKEN_NAME, f"{token}\n")
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": token})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return Fence(folder, token, descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock; who only looks at it, as `is_driven` does, has it for an instant."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def is_driven(folder: Path | str) -> bool:
    """Whether a driver holds the lock of a folder, as far as the file system tells this host.

    Where it keeps locks to the host that took them, a driver of another host is not seen.
    """
    try:
        descriptor = os.open(Path(folder) / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)
    return False


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f" on host {holder['host']} as process {holder['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # It has the lock, and has not written its name yet.


def _read_token(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
    except ValueError:
        raise ValueError(
            f"{path}: holds no number; write one into it that is larger than those in the names of the journal files"
        ) from None


def _forget_in_child() -> None:
    for fence in _held:
        fence.release()


os.register_at_fork(after_in_child=_forget_in_child)
