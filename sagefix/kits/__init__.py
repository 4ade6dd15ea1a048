"""Kits: everything that one pin takes on a machine without a network, in one file."""
