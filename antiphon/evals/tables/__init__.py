"""The tables by which papers judge Audio-LLMs, measured by one command (`antiphon eval tables`).

- `lm`: our thinker behind lm-eval's interface. `text`: the tasks of the text table and where their data lies.
- `sandbox`: runs code that a model wrote. `code`: whether it does what a task asks.
"""
