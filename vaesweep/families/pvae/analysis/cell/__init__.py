"""Pictures of one trained cell at work (thesis study A, Figures 1 to 5)."""
