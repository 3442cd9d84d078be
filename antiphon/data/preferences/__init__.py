"""Preference pairs: several samples of each prompt, measured, and the better beside the worse of them."""
