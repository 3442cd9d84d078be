"""Published encoders of speech: Whisper, HuBERT, wav2vec 2.0, WavLM."""
