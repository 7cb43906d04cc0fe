"""Hierarchical VAEs of images, very deep ones and those continuous in depth (thesis study C)."""
