"""The report of a campaign: what is on disk, what it says, and how it looks."""
