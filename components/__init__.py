"""The pipeline's steps, each a folder of its own, and the few modules that they share."""
