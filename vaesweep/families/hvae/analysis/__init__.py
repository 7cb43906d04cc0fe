"""Analysis of hierarchies: other steps after training, rates, and single trained cells (thesis study C)."""
