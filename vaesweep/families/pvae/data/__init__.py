"""Audiograms: tables, populations and synthetic ones, and masks of observed dimensions."""
