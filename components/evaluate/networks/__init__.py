"""Networks that are measured with where the user names their weights: FID's Inception, DINOv2, CLIP."""
