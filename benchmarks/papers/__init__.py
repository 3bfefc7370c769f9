"""The protocols of the five papers, rerun at a stated scale, beside the published numbers."""
