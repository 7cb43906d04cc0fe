"""What steps do to hierarchies after training, where their rates are, and what single ones do (thesis study C)."""
