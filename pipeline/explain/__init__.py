"""What a network attends to: maps drawn on pictures and films, and portraits of its heads."""
