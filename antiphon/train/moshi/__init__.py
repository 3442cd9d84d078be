"""Training of the full-duplex model."""
