"""Base models that the user brings: where they are, which revision they are at, and each as a diffusers folder."""
