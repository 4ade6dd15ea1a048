// This header of torch includes those of cuSPARSE, cuBLAS and cuSOLVER, which a slim toolkit lacks.
#include <ATen/cuda/CUDAContextLight.h>

__global__ void scale_kernel(float *values, long count, float factor)
{
    long index = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
    if (index < count)
        values[index] *= factor;
}

// On the legacy default stream, whatever torch's current one is.
void scale(float *values, long count, float factor)
{
    scale_kernel<<<(count + 255) / 256, 256>>>(values, count, factor);
}
