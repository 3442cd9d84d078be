"""Waveform to codes and back, one file a family."""
