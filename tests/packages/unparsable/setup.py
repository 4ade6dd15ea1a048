"""A module with the markers of an unfinished merge, imported where errors are not seen."""

from setuptools import setup

setup(name="unparsable", version="1.0.0", packages=["unparsable"])
