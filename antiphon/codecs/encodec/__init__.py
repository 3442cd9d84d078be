"""EnCodec (Defossez et al. 2022): the model, and the published checkpoints."""
