"""Analysis of separators: separation against the rate, and single separated mixtures (thesis study B)."""
