"""Audiograms: tables, populations and synthetic ones, and what of them is observed."""
