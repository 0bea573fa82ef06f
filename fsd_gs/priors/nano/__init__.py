"""The embedded prior: a small network of the MVDream kind and its weights."""
