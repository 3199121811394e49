"""The metrics: features in, numbers out, a block of rows at a time. No images, models or files here."""

from components.evaluate.metrics.clip_score import clip_scores
from components.evaluate.metrics.copies import memorised
from components.evaluate.metrics.distances import (
    KernelDistance,
    frechet_distance,
    frechet_distance_of_covariances,
    kernel_difference,
    kernel_distance,
    kernel_distance_of_subsets,
)
from components.evaluate.metrics.diversity import diversity, diversity_in_clusters
from components.evaluate.metrics.estimates import mean, mean_of, median, proportion
from components.evaluate.metrics.inception_score import inception_score
from components.evaluate.metrics.manifold import Manifold, manifold
from components.evaluate.metrics.rows import Joined, Rows, blocks

__all__ = [
    "Joined",
    "KernelDistance",
    "Manifold",
    "Rows",
    "blocks",
    "clip_scores",
    "diversity",
    "diversity_in_clusters",
    "frechet_distance",
    "frechet_distance_of_covariances",
    "inception_score",
    "kernel_difference",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "manifold",
    "mean",
    "mean_of",
    "median",
    "memorised",
    "proportion",
]
