"""Qwen2.5-Omni and Qwen3-Omni: text, images, video and sound in, text and speech out at once."""
