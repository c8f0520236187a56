"""The networks, their pretrained weights and their checkpoints."""
