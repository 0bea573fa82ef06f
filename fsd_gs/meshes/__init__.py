"""Reading mesh files: what stands in a file, as surfaces with their colours, for whoever wants splats or training objects from it."""
