"""The nets and the GPUs that nfbench knows, and what was published about them. Imports no torch."""
