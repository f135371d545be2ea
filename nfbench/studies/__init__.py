"""Grids of workloads: the study file and its runner."""
