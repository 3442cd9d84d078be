"""Conversations that are held live, and what is called in them."""
