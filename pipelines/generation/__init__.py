"""New images from a trained model: ``python -m pipelines generate``."""
