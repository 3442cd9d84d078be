"""Moshi (Defossez et al. 2024): temporal and depth transformer over text and two audio streams."""
