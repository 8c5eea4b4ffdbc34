"""Processes, devices, random seeds, memory and signals."""
