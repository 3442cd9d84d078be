"""What predicts: ears, thinker, talker."""
