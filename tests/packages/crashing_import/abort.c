#include <Python.h>
#include <stdlib.h>

PyMODINIT_FUNC PyInit__abort(void) { abort(); }
