"""Fields to files that other programs read."""

from neural_fields.exporters.mesh import MeshReport, export_mesh

__all__ = ["MeshReport", "export_mesh"]
