#include <Python.h>

#include <cuda.h>

void scale(float *values, long count, float factor);

static PyObject *py_scale(PyObject *, PyObject *arguments)
{
    unsigned long long address;
    long count;
    float factor;
    if (!PyArg_ParseTuple(arguments, "Klf", &address, &count, &factor))
        return nullptr;
    scale(reinterpret_cast<float *>(address), count, factor);
    Py_RETURN_NONE;
}

// A function of the driver itself: without libcuda.so.1 in NEEDED this module does not load.
static PyObject *py_error_name(PyObject *, PyObject *number)
{
    const char *name = nullptr;
    cuGetErrorName(static_cast<CUresult>(PyLong_AsLong(number)), &name);
    return PyUnicode_FromString(name ? name : "unknown");
}

static PyMethodDef methods[] = {
    {"scale", py_scale, METH_VARARGS, nullptr},
    {"error_name", py_error_name, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", nullptr, -1, methods};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
