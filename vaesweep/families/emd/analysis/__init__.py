"""How well separators separate against the rate, and what single ones do to a mixture (thesis study B)."""
