"""Training: recipes, batches, the loop, the last layers, thresholds."""
