"""The evaluate step: images from every checkpoint, measured against held-out real crops."""
