"""The builders of the catalogue, one file a theme: (rng, design, palette) → solids. ``fsd_gs.catalogue.objects`` lists them."""
