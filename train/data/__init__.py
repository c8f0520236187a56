"""Images and their labels: manifests, splits, sources, and data sets read from a folder or an Orthanc."""
