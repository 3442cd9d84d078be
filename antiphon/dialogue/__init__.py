"""Live conversation: the turn loop, sessions that take microphone audio in and give events out, and tool calls."""
