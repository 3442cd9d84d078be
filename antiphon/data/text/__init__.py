"""Texts: public corpora, made facts, and examples for instruction."""
