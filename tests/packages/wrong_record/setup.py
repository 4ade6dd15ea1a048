"""A package whose record speaks of something else; the tests put it into the ``.dist-info``."""

from setuptools import setup

setup(
    name="wrong-record",
    version="1.0.0+abcdef1.torch2.11.sm90",
    packages=["wrong_record"],
    install_requires=["torch==2.11.*"],
)
