"""How far to trust a separation without its references: scores, their calibration, and a file's summary."""
