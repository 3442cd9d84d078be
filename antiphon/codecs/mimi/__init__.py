"""Mimi (Defossez et al. 2024): the model, and the published checkpoints."""
