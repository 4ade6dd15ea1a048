#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fine", NULL, -1, NULL};

PyMODINIT_FUNC PyInit__fine(void) { return PyModule_Create(&module); }
