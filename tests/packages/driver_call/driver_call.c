/* A module that calls one function of the CUDA driver without including anything of CUDA: what it needs at import is
   decided by the linker alone. */
#include <Python.h>

extern int cuTensorMapEncodeTiled(void);

static PyObject *call(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    return PyLong_FromLong(cuTensorMapEncodeTiled());
}

static PyMethodDef methods[] = {{"call", call, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "driver_call", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_driver_call(void) { return PyModule_Create(&definition); }
