"""vaesweep: rate sweeps of variational autoencoders, from a short script to a rate-distortion curve."""

import os

__version__ = "0.2.0"

# MLflow would send who uses what of it, and reads this when it is imported. Ray's reports are off too.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
