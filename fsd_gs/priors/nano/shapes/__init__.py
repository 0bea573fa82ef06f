"""The builders of the catalogue, one file a theme: (rng, design, palette) → solids. ``fsd_gs.priors.nano.catalogue`` lists them."""
