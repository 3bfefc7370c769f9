"""Video fields as bitstreams: quantisation, entropy coding, containers."""
