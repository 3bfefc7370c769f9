"""Cameras, rays, occupancy and volume rendering."""
