"""Studies: a YAML file, its jobs, and the batch that runs them by papermill, on one machine or a
Ray cluster."""
