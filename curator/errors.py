"""The errors that a user sees as one to three lines and an exit status, never as a traceback."""


class CuratorError(Exception):
    """The input was good, the work failed: exit status 1."""

    exit_status = 1


class BadInput(CuratorError, ValueError):
    """Something the user gave cannot be used; the message names it, its place and the remedy: exit status 2."""

    exit_status = 2
