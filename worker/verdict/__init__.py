"""From a chunk of instances to recorded verdicts."""
