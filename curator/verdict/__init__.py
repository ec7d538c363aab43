"""When a campaign may stop: what it reads of its rounds, the tests, and what is worth buying next."""
