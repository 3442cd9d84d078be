"""Training of codecs and tokenizers."""
