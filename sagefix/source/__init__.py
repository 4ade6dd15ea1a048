"""The pinned commit, fetched and checked. :mod:`sagefix.source.fetch` is the door of this room."""
