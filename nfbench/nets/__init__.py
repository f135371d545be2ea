"""The nets and their training step."""
