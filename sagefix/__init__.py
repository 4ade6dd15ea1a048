"""From a pinned commit to an attention kernel that is proven right on this GPU."""

__version__ = "0.1.0"
