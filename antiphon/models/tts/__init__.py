"""Text to speech: normalisation, phonemes, the talker that predicts codes, the synthesizer around it."""
