import os

os.environ.setdefault("NO_TORCH_COMPILE", "1")  # which the `moshi` package asks for at each step
