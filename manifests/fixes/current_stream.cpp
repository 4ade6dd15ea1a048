// Sends kernels that are launched on the legacy default stream to the stream that torch is using.
//
// `kernel<<<grid, block, shared>>>(...)` becomes a call of __cudaPushCallConfiguration with stream 0, which nvcc writes
// into the host code of every launch. Under CUDA graphs and on side streams that is the wrong stream, silently
// (https://github.com/thu-ml/SageAttention/issues/371, https://github.com/thu-ml/SageAttention/issues/380). The linker
// replaces the call by the function below (--wrap=__cudaPushCallConfiguration); no source of the package is touched.
// A stream that a launch names by itself is left alone.
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

extern "C" {

unsigned __real___cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st* stream);

// Exported, so that a check of the finished file finds it.
__attribute__((visibility("default"))) unsigned __wrap___cudaPushCallConfiguration(
    dim3 grid, dim3 block, size_t shared, struct CUstream_st* stream) {
  if (stream == nullptr) {
    stream = c10::cuda::getCurrentCUDAStream().stream();
  }
  return __real___cudaPushCallConfiguration(grid, block, shared, stream);
}

}  // extern "C"
