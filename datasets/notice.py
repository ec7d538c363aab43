"""What a user should be told though nothing failed."""


class Notice(UserWarning):
    """A warning meant for the user of curator; the command line shows these and no other warnings."""
