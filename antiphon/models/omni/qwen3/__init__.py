"""Qwen3-Omni: experts think and speak, sixteen codes a frame, sound by causal convolutions."""
