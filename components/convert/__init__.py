"""convert: the chosen checkpoint as one file in the original Stable Diffusion key layout, published."""
