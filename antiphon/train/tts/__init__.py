"""Training of the talker."""
