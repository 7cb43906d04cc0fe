"""Reports on the use of each rate, beside classical baselines (thesis study A, Figures 6 to 10)."""
