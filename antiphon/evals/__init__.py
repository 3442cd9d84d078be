"""What the models can do, measured.

- `metrics/`: pure functions of sounds, texts, codes and phones. `asr_judge`: Whisper as a listener.
- `assistant/`: every figure of the mini model (`antiphon eval mini`). `codec/`: codecs beside each other (`antiphon
  eval codec`). `duplex/`: who speaks when (`antiphon eval duplex`). `hearing/`: sounds, voices, feelings and music, and
  whether answers mind them (`antiphon eval hearing`).
- `tables/`: what papers measure, beside what they published (`antiphon eval tables`).
- `harness`: what evaluations of a model share, and the run itself. `cache`: results that need no measuring again.
- `report`: a figure, and a report of them as table and JSON. `plots`: pictures. `machine`: what they were measured on.
"""
