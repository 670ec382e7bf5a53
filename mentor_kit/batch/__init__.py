"""Studies: a YAML file, its cells, and the batch that runs them by papermill, on one machine or a
Ray cluster."""
