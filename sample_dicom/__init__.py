"""Made-up patients and their images: a generator, and its output under ``studies/``."""
