"""Blocks that every model shares: causal convolutions, attention with a cache, quantizers.
Nothing here knows about speech.
"""
