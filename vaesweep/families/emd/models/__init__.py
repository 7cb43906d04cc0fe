"""Encoder-masker-decoder networks and their latent variables: tensors in, an Elbo out."""
