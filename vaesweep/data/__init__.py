"""Data as named domains: real loaders and their synthetic twins. Numpy arrays out; no model, no Ray."""
