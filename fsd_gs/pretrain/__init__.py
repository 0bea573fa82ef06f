"""Training of an embedded prior: captioned objects rendered on the fly, an autoencoder, then a multi-view latent diffusion model."""
