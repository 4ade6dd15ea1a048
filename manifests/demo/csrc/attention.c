/* softmax(Q K^T * scale) V on flat buffers of float or double, in one pass over the keys.
 *
 * The running maximum and sum follow Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * https://arxiv.org/abs/1805.02867: whenever a larger score comes, what was summed up so far is scaled down, so
 * that no exponential overflows and no row of scores is kept. Sums are kept in double for both types.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>

typedef struct {
    Py_ssize_t queries; /* rows of q and out */
    Py_ssize_t keys;    /* rows of k and v */
    Py_ssize_t dim;     /* columns of q and k */
    Py_ssize_t width;   /* columns of v and out */
    double scale;
    int causal;
} Shape;

/* The same loops for both element types; `sums` holds `width` numbers. */
#define DEFINE_ATTENTION(NAME, TYPE)                                                                      \
    static void NAME(const TYPE *q, const TYPE *k, const TYPE *v, TYPE *out, double *sums,                \
                     const Shape *shape)                                                                  \
    {                                                                                                     \
        for (Py_ssize_t i = 0; i < shape->queries; i++) {                                                 \
            Py_ssize_t visible = shape->causal ? i + 1 : shape->keys;                                     \
            double highest = -INFINITY;                                                                   \
            double total = 0.0;                                                                           \
            for (Py_ssize_t c = 0; c < shape->width; c++) {                                               \
                sums[c] = 0.0;                                                                            \
            }                                                                                             \
            for (Py_ssize_t j = 0; j < visible; j++) {                                                    \
                double score = 0.0;                                                                       \
                for (Py_ssize_t c = 0; c < shape->dim; c++) {                                             \
                    score += (double)q[i * shape->dim + c] * (double)k[j * shape->dim + c];               \
                }                                                                                         \
                score *= shape->scale;                                                                    \
                if (score > highest) {                                                                    \
                    double shrink = exp(highest - score);                                                 \
                    total *= shrink;                                                                      \
                    for (Py_ssize_t c = 0; c < shape->width; c++) {                                       \
                        sums[c] *= shrink;                                                                \
                    }                                                                                     \
                    highest = score;                                                                      \
                }                                                                                         \
                double weight = exp(score - highest);                                                     \
                total += weight;                                                                          \
                for (Py_ssize_t c = 0; c < shape->width; c++) {                                           \
                    sums[c] += weight * (double)v[j * shape->width + c];                                  \
                }                                                                                         \
            }                                                                                             \
            for (Py_ssize_t c = 0; c < shape->width; c++) {                                               \
                out[i * shape->width + c] = (TYPE)(sums[c] / total);                                      \
            }                                                                                             \
        }                                                                                                 \
    }

DEFINE_ATTENTION(attention_double, double)
DEFINE_ATTENTION(attention_float, float)

/* 0 if the buffer holds rows * columns elements of the wanted type, -1 with an exception set if not. */
static int check(const Py_buffer *view, const char *name, char type, Py_ssize_t rows, Py_ssize_t columns)
{
    if (view->format == NULL || view->format[0] != type || view->format[1] != '\0') {
        PyErr_Format(PyExc_TypeError, "%s must hold elements of type '%c', as q does", name, type);
        return -1;
    }
    if (rows > PY_SSIZE_T_MAX / columns || view->len / view->itemsize != rows * columns) {
        PyErr_Format(PyExc_ValueError, "%s must hold %zd rows of %zd numbers", name, rows, columns);
        return -1;
    }
    return 0;
}

static PyObject *attention(PyObject *module, PyObject *args)
{
    enum { Q, K, V, OUT, BUFFERS };
    PyObject *objects[BUFFERS];
    Py_buffer views[BUFFERS];
    int held = 0;
    Shape shape;
    PyObject *result = NULL;
    double *sums = NULL;
    char type;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOnnnndp:attention", &objects[Q], &objects[K], &objects[V], &objects[OUT],
                          &shape.queries, &shape.keys, &shape.dim, &shape.width, &shape.scale, &shape.causal)) {
        return NULL;
    }
    if (shape.queries < 0 || shape.keys < 1 || shape.dim < 1 || shape.width < 1) {
        PyErr_SetString(PyExc_ValueError, "at least one key and one column are needed");
        return NULL;
    }
    if (shape.causal && shape.queries != shape.keys) {
        PyErr_SetString(PyExc_ValueError, "causal attention needs as many keys as queries");
        return NULL;
    }
    for (; held < BUFFERS; held++) {
        int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (held == OUT ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(objects[held], &views[held], flags) < 0) {
            goto done;
        }
    }
    type = views[Q].format != NULL ? views[Q].format[0] : '\0';
    if (type != 'd' && type != 'f') {
        PyErr_SetString(PyExc_TypeError, "q must hold elements of type 'd' or 'f'");
        goto done;
    }
    if (check(&views[Q], "q", type, shape.queries, shape.dim) < 0 ||
        check(&views[K], "k", type, shape.keys, shape.dim) < 0 ||
        check(&views[V], "v", type, shape.keys, shape.width) < 0 ||
        check(&views[OUT], "out", type, shape.queries, shape.width) < 0) {
        goto done;
    }
    sums = PyMem_New(double, shape.width);
    if (sums == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    if (type == 'd') {
        attention_double(views[Q].buf, views[K].buf, views[V].buf, views[OUT].buf, sums, &shape);
    }
    else {
        attention_float(views[Q].buf, views[K].buf, views[V].buf, views[OUT].buf, sums, &shape);
    }
    Py_END_ALLOW_THREADS
    PyMem_Free(sums);
    Py_INCREF(Py_None);
    result = Py_None;

done:
    while (held > 0) {
        PyBuffer_Release(&views[--held]);
    }
    return result;
}

static PyMethodDef methods[] = {
    {"attention", attention, METH_VARARGS,
     "attention(q, k, v, out, queries, keys, dim, width, scale, causal)\n\nFill out; see demoattention.attention."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_attention",
    .m_doc = "The compiled half of demoattention.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__attention(void)
{
    return PyModuleDef_Init(&definition);
}
