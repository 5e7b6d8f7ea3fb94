"""Films in and out: frames with their times, decoded, drawn on and encoded."""
