"""Steps in containers of their own, on this machine's Docker: ``python -m pipelines run --runner docker``."""
