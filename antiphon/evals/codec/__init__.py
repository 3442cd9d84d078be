"""What a codec keeps of a sound, at which rate."""
