"""Volumes on disk: blocking files, no reactor."""
