/* Streams, events, captures and launches. Everything is over at once; waiting is counted. */
#define _GNU_SOURCE
#include "counters.h"
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>

#define MOST_CAPTURED 64
#define MOST_EVENTS 4096

/* One capture at a time: the streams that take part, by joining through events, and the events recorded in it. */
static const void *captured_streams[MOST_CAPTURED], *captured_events[MOST_EVENTS];
static int stream_count, event_count;
static unsigned long long capture_number;
static enum cudaStreamCaptureMode capture_mode;
static pthread_t capture_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

static int among(const void **list, int count, const void *wanted) {
    for (int i = 0; i < count; i++)
        if (list[i] == wanted) return 1;
    return 0;
}
static int captured(const void *stream) { return stream_count && among(captured_streams, stream_count, stream); }

void null_count_on(enum null_counter which, const void *stream) { null_count(captured(stream) ? null_captured : which); }

static cudaError_t refused(void) {
    null_count(null_refused_captures);
    return cudaErrorStreamCaptureUnsupported;
}

/* Whether a capture forbids this thread a call that it cannot record, such as waiting and allocating. */
int null_forbidden(void) {
    if (!stream_count || thread_mode == cudaStreamCaptureModeRelaxed || capture_mode == cudaStreamCaptureModeRelaxed)
        return 0;
    int own = pthread_equal(capture_thread, pthread_self());
    if (!own && (capture_mode == cudaStreamCaptureModeThreadLocal || thread_mode == cudaStreamCaptureModeThreadLocal))
        return 0;
    null_count(null_refused_captures);
    return 1;
}

VISIBLE cudaError_t cudaStreamCreate(cudaStream_t *stream) { *stream = null_handle(); return cudaSuccess; }
VISIBLE cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreate(stream); }
VISIBLE cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    return cudaStreamCreate(stream);
}
VISIBLE cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) { *priority = 0; return cudaSuccess; }
VISIBLE cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return captured(stream) || null_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
VISIBLE cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    null_count(null_stream_syncs);
    if (captured(stream)) return refused();
    return null_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
VISIBLE cudaError_t cudaDeviceSynchronize(void) {
    null_count(null_device_syncs);
    return null_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

VISIBLE cudaError_t cudaEventCreate(cudaEvent_t *event) { *event = null_handle(); return cudaSuccess; }
VISIBLE cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { return cudaEventCreate(event); }
VISIBLE cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    null_count_on(null_event_records, stream);
    pthread_mutex_lock(&lock);
    if (captured(stream) && event_count < MOST_EVENTS && !among(captured_events, event_count, event))
        captured_events[event_count++] = event;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    return cudaEventRecord(event, stream);
}
VISIBLE cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    pthread_mutex_lock(&lock);
    int joins = among(captured_events, event_count, event) && !captured(stream) && stream_count < MOST_CAPTURED;
    if (joins && stream_count) captured_streams[stream_count++] = stream;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaEventQuery(cudaEvent_t event) {
    null_count(null_event_queries);
    return null_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
VISIBLE cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    null_count(null_event_syncs);
    return null_forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
VISIBLE cudaError_t cudaEventDestroy(cudaEvent_t event) { return cudaSuccess; }
VISIBLE cudaError_t cudaStreamDestroy(cudaStream_t stream) { return cudaSuccess; }
VISIBLE cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return cudaSuccess; }
VISIBLE cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaSuccess; }
VISIBLE cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) { *ms = 1; return cudaSuccess; }

VISIBLE cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    enum cudaStreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = captured(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                                             unsigned long long *number, cudaGraph_t *graph,
                                             const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *count) {
    cudaStreamIsCapturing(stream, status);
    if (number) *number = capture_number;
    if (graph) *graph = (cudaGraph_t)&capture_number;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    if (stream_count || !stream) return refused();
    captured_streams[0] = stream;
    capture_mode = mode;
    capture_thread = pthread_self();
    capture_number++;
    stream_count = 1;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    if (!stream_count || captured_streams[0] != stream) return refused();
    pthread_mutex_lock(&lock);
    stream_count = event_count = 0;
    pthread_mutex_unlock(&lock);
    *graph = null_handle();
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long flags) {
    *ready = null_handle();
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    *count = 1;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    null_count(null_graphs);
    return cudaSuccess;
}

int null_takes(const char *what, uint64_t gx, uint64_t gy, uint64_t gz, uint64_t bx, uint64_t by, uint64_t bz,
               uint64_t shared, uint64_t most_shared) {
    int grid = gx && gy && gz && gx <= 0x7fffffff && gy <= 65535 && gz <= 65535;
    int block = bx && by && bz && bz <= 64 && bx * by * bz <= 1024;
    if (grid && block && shared <= most_shared) return 1;
    null_count(null_refused_launches);
    fprintf(stderr, "null GPU: a %s launch is refused: grid %lu x %lu x %lu, block %lu x %lu x %lu, %lu of %lu bytes of shared memory\n",
            what, gx, gy, gz, bx, by, bz, shared, most_shared);
    return 0;
}

/* A launch of nvcc's returns nothing: PyTorch asks for the error afterwards. */
static __thread cudaError_t last_error;
VISIBLE cudaError_t cudaPeekAtLastError(void) { return last_error; }
VISIBLE cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

#define MOST_RAISED 256
static const void *raised[MOST_RAISED];
static uint64_t raised_to[MOST_RAISED];
static int raised_count;

static uint64_t most_shared(const void *function) {
    for (int i = 0; i < raised_count; i++)
        if (raised[i] == function) return raised_to[i];
    return 49152;
}
VISIBLE cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value > 232448) return cudaErrorInvalidValue;
    pthread_mutex_lock(&lock);
    if (raised_count < MOST_RAISED) {
        raised[raised_count] = function;
        raised_to[raised_count++] = value;
    }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    if (!null_takes("CUDA", grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, most_shared(function)))
        return last_error = cudaErrorInvalidConfiguration;
    null_count_on(null_kernels, stream);
    return cudaSuccess;
}
VISIBLE cudaError_t __cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(function, grid, block, arguments, shared, stream);
}
VISIBLE cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
    return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream);
}
VISIBLE cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    return cudaLaunchKernel(function, grid, block, arguments, shared, stream);
}

/* nvcc's <<< >>> leaves its shape here for the stub that it calls next. */
static __thread struct {
    dim3 grid, block;
    size_t shared;
    void *stream;
} pending;
VISIBLE unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    pending.grid = grid;
    pending.block = block;
    pending.shared = shared;
    pending.stream = stream;
    return 0;
}
VISIBLE cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pending.grid;
    *block = pending.block;
    *shared = pending.shared;
    *(void **)stream = pending.stream;
    return cudaSuccess;
}
