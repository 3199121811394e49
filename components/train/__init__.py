"""DreamBooth fine-tuning of a Stable Diffusion base model on defect crops."""
