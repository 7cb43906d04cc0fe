"""Tasks of a trained representation: prediction, acquisition and stopping."""
