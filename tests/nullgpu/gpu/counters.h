/* What the null GPU counts, and what its parts share. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define VISIBLE __attribute__((visibility("default")))

#define COUNTERS(X)                                                                              \
    X(kernels)           /* of CUDA C++, launched outside of a capture */                        \
    X(triton_kernels)    /* through the driver */                                                \
    X(graphs)            /* replays */                                                           \
    X(matrix_products)   /* calls of cuBLAS */                                                   \
    X(convolutions)      /* plans of cuDNN that were executed */                                 \
    X(collectives)       /* calls of NCCL */                                                     \
    X(copies)            /* asynchronous ones */                                                 \
    X(pageable_copies)   /* those of them that have host memory which is not pinned */           \
    X(blocking_copies)   /* cudaMemcpy */                                                        \
    X(fills)             /* cudaMemset */                                                        \
    X(stream_syncs)                                                                              \
    X(device_syncs)                                                                              \
    X(event_syncs)                                                                               \
    X(event_records)                                                                             \
    X(event_queries)                                                                             \
    X(allocations)       /* of device memory, from the driver */                                 \
    X(host_allocations)  /* of pinned memory */                                                  \
    X(releases)          /* of either */                                                         \
    X(captured)          /* kernels, copies and library calls that a capture took */             \
    X(refused_launches)  /* grids, blocks or shared memory that a GPU refuses */                 \
    X(refused_captures)  /* calls that a capture forbids */                                      \
    X(bad_addresses)     /* copies that name memory of the wrong side */                         \
    X(unmodelled)        /* calls of functions that do nothing here, see null_unmodelled_names */

#define ENUMERATED(name) null_##name,
enum null_counter { COUNTERS(ENUMERATED) null_counters };

void null_count(enum null_counter which);
void null_count_on(enum null_counter which, const void *stream);
int null_is_device(const void *address);
int null_is_pinned(const void *address);
void *null_handle(void);

/* Whether a GPU takes a launch of this shape; says why not. */
int null_takes(const char *what, uint64_t gx, uint64_t gy, uint64_t gz, uint64_t bx, uint64_t by, uint64_t bz,
               uint64_t shared, uint64_t most_shared);
