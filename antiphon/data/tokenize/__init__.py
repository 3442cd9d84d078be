"""Recordings to codes on disk, and back to sound."""
