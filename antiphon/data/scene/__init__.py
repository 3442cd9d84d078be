"""Recordings with labels of what is heard besides the words, and what is made of them: examples, mixtures, features."""
