"""One measurement: the timed loop, when it stops, what is read meanwhile."""
