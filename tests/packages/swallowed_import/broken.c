#include <Python.h>

extern long kernel_that_nobody_has(long);

static PyObject *call(PyObject *self, PyObject *argument) {
    return PyLong_FromLong(kernel_that_nobody_has(PyLong_AsLong(argument)));
}

static PyMethodDef methods[] = {{"call", call, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_broken", NULL, -1, methods};

PyMODINIT_FUNC PyInit__broken(void) { return PyModule_Create(&module); }
