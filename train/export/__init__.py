"""From a checkpoint to model files that the worker runs."""
