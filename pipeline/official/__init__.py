"""The benchmark's own tools: its script beside our scores, and the zip for its server."""
