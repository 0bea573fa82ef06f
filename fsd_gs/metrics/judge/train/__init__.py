"""Training of the judge on renderings of the catalogue: ``python -m fsd_gs.metrics.judge.train``."""
