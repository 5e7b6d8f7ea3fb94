"""Works with the official benchmark: compares with its script, makes the zip for its server."""
