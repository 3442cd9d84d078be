"""Questions that are heard, and texts that are read aloud."""
