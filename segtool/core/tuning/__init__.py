"""Thresholds and ensemble weights fitted to masks."""
