"""Export of checkpoints to model files for the worker."""
