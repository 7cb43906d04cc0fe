"""The networks of the partial VAE: tensors in, an Elbo out."""
