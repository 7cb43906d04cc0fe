"""Figures of one trained cell (thesis study A, Figures 1 to 5)."""
