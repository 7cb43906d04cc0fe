"""Torch modules that turn a batch and its noise into an Elbo: no data, no files, no randomness of their own."""
