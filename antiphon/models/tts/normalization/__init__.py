"""Written text to words that can be spoken."""
