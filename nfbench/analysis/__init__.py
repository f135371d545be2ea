"""Arithmetic on stored results: reading and writing them, metrics, findings, statistics. Imports no torch."""
