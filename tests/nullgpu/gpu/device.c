/* What the device says of itself: an H100, as many as NULL_GPUS (1). And the driver, as far as Triton asks for it. */
#define _GNU_SOURCE
#include "counters.h"
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 13000
#define PROCESSORS 132
#define SHARED 49152
#define OPT_IN_SHARED 232448
#define SHARED_OF_PROCESSOR 233472
#define REGISTERS 65536
#define THREADS 1024
#define THREADS_OF_PROCESSOR 2048
#define CACHE 52428800

static __thread int current;

VISIBLE cudaError_t cudaGetDeviceCount(int *count) {
    const char *wanted = getenv("NULL_GPUS");
    *count = wanted ? atoi(wanted) : 1;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGetDevice(int *device) { *device = current; return cudaSuccess; }
VISIBLE cudaError_t cudaSetDevice(int device) { current = device; return cudaSuccess; }
VISIBLE cudaError_t cudaDriverGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
VISIBLE cudaError_t cudaRuntimeGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
VISIBLE const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return error ? "an error of the null GPU" : "no error";
    }
}
VISIBLE const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
VISIBLE cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return cudaSuccess; }
VISIBLE cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device) {
    snprintf(id, length, "0000:%02x:00.0", device);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "null GPU, like an H100");
    found->major = 9;
    found->totalGlobalMem = 80ull << 30;
    found->multiProcessorCount = PROCESSORS;
    found->sharedMemPerBlock = SHARED;
    found->sharedMemPerBlockOptin = OPT_IN_SHARED;
    found->sharedMemPerMultiprocessor = SHARED_OF_PROCESSOR;
    found->regsPerBlock = found->regsPerMultiprocessor = REGISTERS;
    found->warpSize = 32;
    found->maxThreadsPerBlock = found->maxThreadsDim[0] = found->maxThreadsDim[1] = THREADS;
    found->maxThreadsDim[2] = 64;
    found->maxThreadsPerMultiProcessor = THREADS_OF_PROCESSOR;
    found->maxBlocksPerMultiProcessor = 32;
    found->maxGridSize[0] = found->memPitch = 0x7fffffff;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->l2CacheSize = CACHE;
    found->totalConstMem = 65536;
    found->textureAlignment = 512;
    found->memoryBusWidth = 5120;
    found->unifiedAddressing = found->managedMemory = found->concurrentKernels = 1;
    found->asyncEngineCount = 3;
    return cudaSuccess;
}

/* Runtime and driver number attributes alike. */
static int attribute(int which) {
    switch (which) {
    case cudaDevAttrMaxThreadsPerBlock: case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: return THREADS;
    case cudaDevAttrMaxBlockDimZ: return 64;
    case cudaDevAttrMaxGridDimX: return 0x7fffffff;
    case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock: return SHARED;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return OPT_IN_SHARED;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return SHARED_OF_PROCESSOR;
    case cudaDevAttrMaxRegistersPerBlock: case cudaDevAttrMaxRegistersPerMultiprocessor: return REGISTERS;
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMultiProcessorCount: return PROCESSORS;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return THREADS_OF_PROCESSOR;
    case cudaDevAttrComputeCapabilityMajor: return 9;
    case cudaDevAttrComputeCapabilityMinor: return 0;
    case cudaDevAttrL2CacheSize: return CACHE;
    default: return 1;
    }
}
VISIBLE cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device) {
    *value = attribute(which);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = THREADS;
    found->numRegs = 32;
    found->binaryVersion = found->ptxVersion = 90;
    found->maxDynamicSharedSizeBytes = SHARED;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t shared) {
    *blocks = 2;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads, size_t shared, unsigned flags) {
    *blocks = 2;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) { *pool = null_handle(); return cudaSuccess; }
VISIBLE cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr which, void *value) {
    *(uint64_t *)value = 0;
    return cudaSuccess;
}
VISIBLE void **__cudaRegisterFatBinary(void *binary) { return null_handle(); }
VISIBLE void __cudaRegisterFatBinaryEnd(void **handle) {}
VISIBLE void __cudaUnregisterFatBinary(void **handle) {}
VISIBLE void __cudaRegisterFunction(void) {}
VISIBLE void __cudaRegisterVar(void) {}
VISIBLE char __cudaInitModule(void **handle) { return 1; }
VISIBLE cudaError_t __cudaGetKernel(void **kernel, const void *function) { *kernel = (void *)function; return cudaSuccess; }

static int nothing(void) { return 0; }
VISIBLE cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                                     enum cudaDriverEntryPointQueryResult *result) {
    void *found = dlsym(RTLD_DEFAULT, name);
    *function = found ? found : (void *)nothing;
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

/* The driver */
VISIBLE CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
VISIBLE CUresult cuDriverGetVersion(int *version) { *version = VERSION; return CUDA_SUCCESS; }
VISIBLE CUresult cuDeviceGetCount(int *count) { return (CUresult)cudaGetDeviceCount(count); }
VISIBLE CUresult cuDeviceGet(CUdevice *device, int number) { *device = number; return CUDA_SUCCESS; }
VISIBLE CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    *value = attribute(which);
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = cudaGetErrorString((cudaError_t)error);
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuGetErrorName(CUresult error, const char **text) { return cuGetErrorString(error, text); }
VISIBLE CUresult cuCtxGetCurrent(CUcontext *context) { *context = (CUcontext)&current; return CUDA_SUCCESS; }
VISIBLE CUresult cuCtxSetCurrent(CUcontext context) { return CUDA_SUCCESS; }
VISIBLE CUresult cuCtxSynchronize(void) { return (CUresult)cudaDeviceSynchronize(); }
VISIBLE CUresult cuStreamSynchronize(CUstream stream) { return (CUresult)cudaStreamSynchronize(stream); }
VISIBLE CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { return cuCtxGetCurrent(context); }
VISIBLE CUresult cuPointerGetAttribute(void *value, CUpointer_attribute which, CUdeviceptr address) {
    if (!null_is_device((void *)address) && !null_is_pinned((void *)address)) return CUDA_ERROR_INVALID_VALUE;
    *(CUdeviceptr *)value = address;
    return CUDA_SUCCESS;
}

/* A function of the driver: its shared memory may be raised above the usual. */
struct function {
    uint64_t most_shared;
};
VISIBLE CUresult cuModuleLoadData(CUmodule *module, const void *image) { *module = null_handle(); return CUDA_SUCCESS; }
VISIBLE CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count, CUjit_option *options, void **values) {
    return cuModuleLoadData(module, image);
}
VISIBLE CUresult cuModuleLoad(CUmodule *module, const char *path) { return cuModuleLoadData(module, path); }
VISIBLE CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }
VISIBLE CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    struct function *made = malloc(sizeof *made);
    made->most_shared = SHARED;
    *function = (CUfunction)made;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? THREADS : which == CU_FUNC_ATTRIBUTE_NUM_REGS ? 64 : 0;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
    if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value > OPT_IN_SHARED) return CUDA_ERROR_INVALID_VALUE;
    ((struct function *)function)->most_shared = value;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache config) { return CUDA_SUCCESS; }
VISIBLE CUresult cuOccupancyMaxActiveClusters(int *count, CUfunction function, const CUlaunchConfig *config) {
    *count = PROCESSORS / 2;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
    *blocks = 2;
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                                unsigned shared, CUstream stream, void **arguments, void **extra) {
    uint64_t most = ((struct function *)function)->most_shared;
    if (!null_takes("Triton", gx, gy, gz, bx, by, bz, shared, most)) return CUDA_ERROR_INVALID_VALUE;
    null_count_on(null_triton_kernels, stream);
    return CUDA_SUCCESS;
}
VISIBLE CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **arguments, void **extra) {
    return cuLaunchKernel(function, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ,
                          c->sharedMemBytes, c->hStream, arguments, extra);
}
