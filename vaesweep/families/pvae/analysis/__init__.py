"""What each rate is worth in use, beside classical baselines (thesis study A, Figures 6 to 10)."""
