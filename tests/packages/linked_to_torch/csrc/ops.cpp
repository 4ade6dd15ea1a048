/* A module that is linked to torch's libc10 as upstream's are: the release of torch decides which symbol it asks for. */
#include <Python.h>

#include <c10/answer.h>

/* What stands for GPU code: one entry of a fatbin, machine code for sm_90a of no length. sagefix reads its header. */
__attribute__((section(".nv_fatbin"), used)) static const struct {
    unsigned magic;
    unsigned short version, header;
    unsigned long long size;
    unsigned short kind, unknown;
    unsigned entry_header;
    unsigned long long payload;
    unsigned more[2];
    unsigned short minor, major;
    unsigned arch, zeros[2];
    unsigned long long flags, last[2];
} code = {0xBA55ED50u, 1, 16, 64, 2, 0x101, 64, 0, {0, 0}, 8, 1, 90, {0, 0}, 0x100011, {0, 0}};

static PyObject *answer(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    return PyLong_FromLong(c10::answer(0));
}

static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_ops", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit__ops(void) { return PyModule_Create(&definition); }
