/* cuBLAS, cuDNN's backend and NCCL: handles are made, calls are counted. */
#include "counters.h"
#include <stdlib.h>
#include <string.h>

/* A handle that knows its stream, so that what a capture takes is not counted as launched. */
struct handle {
    void *stream;
    char room[4096];
};
#define STREAM(handle) (((struct handle *)(handle))->stream)
static int make(void **handle) { *handle = calloc(1, sizeof(struct handle)); return 0; }
#define MAKES(name) VISIBLE int name(void **handle) { return make(handle); }
#define FREES(name) VISIBLE int name(void *handle) { free(handle); return 0; }

/* cuBLAS */
MAKES(cublasCreate_v2) MAKES(cublasLtCreate) MAKES(cublasLtMatmulDescCreate) MAKES(cublasLtMatrixLayoutCreate)
MAKES(cublasLtMatmulPreferenceCreate)
FREES(cublasDestroy_v2) FREES(cublasLtMatmulDescDestroy) FREES(cublasLtMatrixLayoutDestroy) FREES(cublasLtMatmulPreferenceDestroy)
VISIBLE int cublasSetStream_v2(void *handle, void *stream) { STREAM(handle) = stream; return 0; }
VISIBLE int cublasSetWorkspace_v2(void *handle, void *space, size_t bytes) { return 0; }
VISIBLE int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
VISIBLE int cublasSetMathMode(void *handle, int mode) { return 0; }
VISIBLE int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
VISIBLE int cublasSetPointerMode_v2(void *handle, int mode) { return 0; }
VISIBLE size_t cublasLtGetVersion(void) { return 130100; }
VISIBLE int cublasLtMatmulDescSetAttribute(void) { return 0; }
VISIBLE int cublasLtMatrixLayoutSetAttribute(void) { return 0; }
VISIBLE int cublasLtMatmulPreferenceSetAttribute(void) { return 0; }
#define PRODUCT(name) VISIBLE int name(void *handle) { null_count_on(null_matrix_products, STREAM(handle)); return 0; }
PRODUCT(cublasGemmEx) PRODUCT(cublasSgemm_v2) PRODUCT(cublasDgemm_v2) PRODUCT(cublasSgemmEx) PRODUCT(cublasSgemv_v2) PRODUCT(cublasDgemv_v2)
PRODUCT(cublasGemmStridedBatchedEx) PRODUCT(cublasSgemmStridedBatched) PRODUCT(cublasDgemmStridedBatched)
VISIBLE int cublasLtMatmul(void *handle, void *description, const void *alpha, const void *a, void *a_layout, const void *b,
                           void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                           const void *algorithm, void *workspace, size_t workspace_bytes, void *stream) {
    null_count_on(null_matrix_products, stream);
    return 0;
}
VISIBLE int cublasLtMatmulAlgoGetHeuristic(void *handle, void *description, void *a, void *b, void *c, void *d, void *preference,
                                           int wanted, char *results, int *found) {
    memset(results, 0, 96); /* of cublasLtMatmulHeuristicResult_t: the state, 0, is success */
    *found = 1;
    return 0;
}

/* cuDNN: one engine for everything, without notes, knobs or workspace */
#define DESCRIPTOR 15 /* CUDNN_TYPE_BACKEND_DESCRIPTOR */
MAKES(cudnnCreate) MAKES(cudnnCreateTensorDescriptor) MAKES(cudnnCreateFilterDescriptor) MAKES(cudnnCreateConvolutionDescriptor)
MAKES(cudnnCreatePoolingDescriptor) MAKES(cudnnCreateActivationDescriptor) MAKES(cudnnCreateDropoutDescriptor)
VISIBLE int cudnnSetStream(void *handle, void *stream) { STREAM(handle) = stream; return 0; }
VISIBLE size_t cudnnGetVersion(void) { return 91900; }
VISIBLE size_t cudnnGetCudartVersion(void) { return 13000; }
VISIBLE int cudnnGetProperty(int which, int *value) { *value = which == 0 ? 9 : which == 1 ? 19 : 0; return 0; }
VISIBLE const char *cudnnGetErrorString(int error) { return "an error of the null GPU's cuDNN"; }
VISIBLE void cudnnGetLastErrorString(char *text, size_t room) { if (room) text[0] = 0; }
VISIBLE int cudnnBackendCreateDescriptor(int type, void **handle) { *handle = calloc(1, 64); return 0; }
FREES(cudnnBackendDestroyDescriptor)
VISIBLE int cudnnBackendInitialize(void *descriptor) { return 0; }
VISIBLE int cudnnBackendFinalize(void *descriptor) { return 0; }
VISIBLE int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *values) { return 0; }
VISIBLE int cudnnBackendGetAttribute(void *descriptor, int name, int type, int64_t wanted, int64_t *found, void *values) {
    if (found) *found = 1;
    if (type == DESCRIPTOR || !values || wanted <= 0) return 0;
    memset(values, 0, type == 3 ? sizeof(int64_t) : sizeof(int)); /* CUDNN_TYPE_INT64 */
    return 0;
}
VISIBLE int cudnnBackendExecute(void *handle, void *plan, void *pack) {
    null_count_on(null_convolutions, STREAM(handle));
    return 0;
}

/* NCCL: every other rank holds what this one does. Small collectives are made, large ones leave memory as it was. */
#define MOST_COPIED (1u << 20)
typedef struct {
    char bytes[128];
} identifier;
struct communicator {
    int world, rank;
};
static const int type_bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
static int join(void **made, int world, int rank) {
    struct communicator *comm = calloc(1, sizeof(struct handle));
    comm->world = world;
    comm->rank = rank;
    *made = comm;
    return 0;
}
VISIBLE int ncclGetVersion(int *version) { *version = 22809; return 0; }
VISIBLE int ncclGetUniqueId(identifier *id) { memset(id, 7, sizeof *id); return 0; }
VISIBLE const char *ncclGetErrorString(int error) { return "an error of the null GPU's NCCL"; }
VISIBLE const char *ncclGetLastError(void *comm) { return "none"; }
VISIBLE int ncclCommInitRank(void **comm, int world, identifier id, int rank) { return join(comm, world, rank); }
VISIBLE int ncclCommInitRankConfig(void **comm, int world, identifier id, int rank, void *config) { return join(comm, world, rank); }
VISIBLE int ncclCommInitRankScalable(void **comm, int world, int rank, int ids, identifier *id, void *config) { return join(comm, world, rank); }
VISIBLE int ncclCommSplit(void *comm, int colour, int key, void **made, void *config) {
    return join(made, ((struct communicator *)comm)->world, ((struct communicator *)comm)->rank);
}
FREES(ncclCommDestroy) FREES(ncclCommAbort)
VISIBLE int ncclCommFinalize(void *comm) { return 0; }
VISIBLE int ncclGroupStart(void) { return 0; }
VISIBLE int ncclGroupEnd(void) { return 0; }
VISIBLE int ncclCommGetAsyncError(void *comm, int *error) { *error = 0; return 0; }
VISIBLE int ncclCommCount(void *comm, int *count) { *count = ((struct communicator *)comm)->world; return 0; }
VISIBLE int ncclCommUserRank(void *comm, int *rank) { *rank = ((struct communicator *)comm)->rank; return 0; }

static int collective(const void *from, void *to, size_t bytes, void *stream) {
    null_count_on(null_collectives, stream);
    if (from != to && bytes <= MOST_COPIED) memmove(to, from, bytes);
    return 0;
}
VISIBLE int ncclAllReduce(const void *from, void *to, size_t count, int type, int how, void *comm, void *stream) {
    return collective(from, to, count * type_bytes[type], stream);
}
VISIBLE int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, void *comm, void *stream) {
    return collective(from, to, count * type_bytes[type], stream);
}
VISIBLE int ncclBcast(void *at, size_t count, int type, int root, void *comm, void *stream) {
    return collective(at, at, count * type_bytes[type], stream);
}
VISIBLE int ncclReduce(const void *from, void *to, size_t count, int type, int how, int root, void *comm, void *stream) {
    return collective(from, to, count * type_bytes[type], stream);
}
VISIBLE int ncclAllGather(const void *from, void *to, size_t count, int type, void *comm, void *stream) {
    struct communicator *own = comm;
    size_t bytes = count * type_bytes[type];
    for (int rank = 0; rank < own->world && bytes <= MOST_COPIED; rank++)
        if ((char *)to + rank * bytes != from) memmove((char *)to + rank * bytes, from, bytes);
    null_count_on(null_collectives, stream);
    return 0;
}
VISIBLE int ncclReduceScatter(const void *from, void *to, size_t count, int type, int how, void *comm, void *stream) {
    struct communicator *own = comm;
    size_t bytes = count * type_bytes[type];
    return collective((const char *)from + own->rank * bytes, to, bytes, stream);
}
