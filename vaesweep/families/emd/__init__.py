"""Encoder-masker-decoder separators of mixtures, variational and deterministic (thesis study B)."""
