"""The gate that a model passes before it becomes champion."""
