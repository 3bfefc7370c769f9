"""Neural fields on any CPU: fit, evaluate and render them."""

__version__ = "0.1.0.dev0"
