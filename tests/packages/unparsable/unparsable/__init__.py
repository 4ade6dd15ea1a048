try:
    from . import late
except:
    late = None
