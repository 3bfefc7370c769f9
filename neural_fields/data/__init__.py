"""Formats in, formats out."""
