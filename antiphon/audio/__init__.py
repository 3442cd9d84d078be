"""Waveforms: load, save, resample, log-mel, microphone and speaker."""
