"""Training of speech language models."""
