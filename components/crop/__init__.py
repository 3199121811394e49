"""crop: square crops around annotated defects, split by source image into train and reference."""
