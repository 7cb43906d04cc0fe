"""The partial VAE of audiograms, acquisition and stopping (thesis study A)."""
