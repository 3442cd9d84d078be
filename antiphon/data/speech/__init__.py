"""Spoken sentences: made by a teacher's voice, made worse on purpose, and turned into features."""
