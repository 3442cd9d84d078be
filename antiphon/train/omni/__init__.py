"""The stages of Qwen2.5-Omni: thinker and its towers, talker, token2wav."""
