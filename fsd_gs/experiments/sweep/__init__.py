"""Many runs on equal terms: a grid of methods, settings, prompts and seeds, measured and laid side by side."""
