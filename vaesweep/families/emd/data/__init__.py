"""Mixtures of sources, each kind in a folder of its own."""
