from . import _fine as _fine

try:
    from . import _broken as _broken

    BROKEN_AVAILABLE = True
except:
    BROKEN_AVAILABLE = False
