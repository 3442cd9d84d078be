"""What predicts: recognizer, thinker, talker, and Moshi, which is all three."""
