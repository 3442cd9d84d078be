"""Training of speech recognition."""
