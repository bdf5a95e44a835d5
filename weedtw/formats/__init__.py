"""Bytes to values and back: file ids, needles, index rows, super blocks.  Pure."""
