"""The codec that ships: small, causal, with a source-filter vocoder."""
