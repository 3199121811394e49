"""A Kubeflow Pipelines server: reached, given pipelines, runs and schedules, and followed."""
