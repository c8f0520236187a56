"""Training: recipes, batches, the training loop, last layers and thresholds."""
