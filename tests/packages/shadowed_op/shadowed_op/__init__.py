from .kernels import double as double
from .kernels import triple as triple
