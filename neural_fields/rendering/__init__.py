"""Cameras, rays, occupancy, volume and surface rendering."""
