"""What a trained representation is used for."""
