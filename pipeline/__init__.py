"""The pipeline: from params.yaml and street scenes to trained, scored, compared SegFormers."""
