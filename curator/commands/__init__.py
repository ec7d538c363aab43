"""The command line on files: one file for each command, or a few that belong together."""
