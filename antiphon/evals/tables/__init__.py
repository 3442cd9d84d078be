"""The tables by which papers judge Audio-LLMs, measured by one command (`antiphon eval tables`).

- `run`: the command's work, from a model's name to a report; `shards`: by several at once. `results`, `page`,
  `compare`: what a report holds and shows, and how two of them differ. `items`: what every task gives. `published`:
  what others measured.
- `text`: the text table, asked by lm-eval; `lm`: our thinker behind lm-eval's interface; `tasks/`: those it has not.
- `code`: whether code that a model wrote does what its task asks; `sandbox`, `confined`: it runs apart from everything.
- `audio`: the audio table. `opening`: what can be measured: `systems`, `realtime`.
- `speech`: questions that are said, and answers to them; whose they are: `voicebench`, `open_answers`,
  `spoken` (the text table's). `seed_tts`: what is read aloud.
- `duplex`: live conversations, and scores of them; whose they are: `full_duplex_bench`, `examined`, `tool_talks`,
  `eot_bench`.
"""
