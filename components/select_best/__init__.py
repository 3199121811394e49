"""The select_best step: one checkpoint chosen by a metric, and why."""
