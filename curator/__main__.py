"""``python -m curator`` is ``curator``."""

from curator.cli import main

main()
