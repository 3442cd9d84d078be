"""Language models, and what surrounds them: templates, sampling, low-rank adapters."""
