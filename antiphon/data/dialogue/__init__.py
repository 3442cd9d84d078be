"""Two-channel conversations: composed, read from recordings, and turned into grids of text and codes."""
