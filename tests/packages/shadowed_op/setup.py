"""An operator whose Python name ends up bound to its fake implementation."""

from setuptools import setup

setup(name="shadowed-op", version="1.0.0", packages=["shadowed_op"])
