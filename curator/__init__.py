"""curator: active learning and data-set curation for machine-learned interatomic potentials."""

__version__ = "0.1.0"
