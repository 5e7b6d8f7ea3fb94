"""What is faster and leaner, compared side by side in one run and printed as ratios."""
