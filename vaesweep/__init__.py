"""vaesweep: rate sweeps of variational autoencoders, from a short script to a rate-distortion curve."""

__version__ = "0.2.0"
