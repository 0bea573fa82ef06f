"""The procedural world of the embedded and the exact prior: captioned everyday objects, their vocabulary, meshes and renderer."""
