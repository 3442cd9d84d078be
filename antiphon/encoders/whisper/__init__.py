"""Whisper (Radford et al. 2022): its encoder and its decoder."""
