"""Other libraries in the place of parts of this one, each imported only where it is asked for."""
