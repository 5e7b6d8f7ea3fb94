"""From images to classes."""
