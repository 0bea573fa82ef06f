"""The world of the embedded priors: a procedural catalogue of captioned everyday objects, its renderer and its vocabulary."""
