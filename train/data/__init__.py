"""Images and their labels: manifests, splits, sources, and what is read from folders or an Orthanc."""
