"""Blocks that every model shares: causal convolutions, attention with a cache, quantizers. None knows about speech."""
