/* Counters, and memory that is address space: pages appear when something is written to them. */
#define _GNU_SOURCE
#include "counters.h"
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NAMED(name) #name " "
VISIBLE const char null_counter_names[] = COUNTERS(NAMED);
VISIBLE volatile long null_counts[null_counters];

#define CAPACITY (80ull << 30)
#define PAGE (2ull << 20)
#define MOST_COPIED (4ull << 20) /* what is larger is not copied: nobody looks at it */
#define MOST_BLOCKS 65536

struct region {
    uint64_t base, size, next;
};
static struct region device_region = {0x600000000000ull, 1ull << 42, 0}, pinned_region = {0x680000000000ull, 1ull << 40, 0};
static struct {
    uint64_t address, size;
} blocks[MOST_BLOCKS];
static size_t block_count;
static uint64_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void null_count(enum null_counter which) { __sync_fetch_and_add(&null_counts[which], 1); }

void *null_handle(void) {
    static uintptr_t last = 0x1000;
    return (void *)__sync_add_and_fetch(&last, 64);
}

static int inside(const struct region *region, const void *address) {
    return (uint64_t)address - region->base < region->size;
}
int null_is_device(const void *address) { return inside(&device_region, address); }
int null_is_pinned(const void *address) { return inside(&pinned_region, address); }

static void *take(struct region *region, uint64_t bytes) {
    if (!region->next) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        if (mmap((void *)region->base, region->size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
            perror("null GPU: no address space");
            abort();
        }
        region->next = region->base;
    }
    void *address = (void *)region->next;
    region->next += (bytes + PAGE - 1) / PAGE * PAGE;
    return address;
}

static cudaError_t allocate(void **address, uint64_t bytes, struct region *region, enum null_counter counter) {
    cudaError_t error = cudaSuccess;
    pthread_mutex_lock(&lock);
    int device = region == &device_region;
    if (block_count == MOST_BLOCKS || (device && used + bytes > CAPACITY)) {
        error = cudaErrorMemoryAllocation;
    } else {
        *address = take(region, bytes ? bytes : 1);
        blocks[block_count].address = (uint64_t)*address;
        blocks[block_count++].size = device ? bytes : 0;
        used += device ? bytes : 0;
    }
    pthread_mutex_unlock(&lock);
    null_count(counter);
    return error;
}

static cudaError_t release(void *address) {
    if (!address) return cudaSuccess;
    null_count(null_releases);
    cudaError_t error = cudaErrorInvalidValue;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < block_count; i++) {
        if (blocks[i].address != (uint64_t)address) continue;
        used -= blocks[i].size;
        madvise(address, blocks[i].size, MADV_DONTNEED);
        blocks[i] = blocks[--block_count];
        error = cudaSuccess;
        break;
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int null_forbidden(void); /* streams.c */

VISIBLE cudaError_t cudaMalloc(void **address, size_t bytes) {
    if (null_forbidden()) return cudaErrorStreamCaptureUnsupported;
    return allocate(address, bytes, &device_region, null_allocations);
}
VISIBLE cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t stream) {
    return allocate(address, bytes, &device_region, null_allocations);
}
VISIBLE cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
    return allocate(address, bytes, &pinned_region, null_host_allocations);
}
VISIBLE cudaError_t cudaMallocHost(void **address, size_t bytes) { return cudaHostAlloc(address, bytes, 0); }
VISIBLE cudaError_t cudaFree(void *address) {
    return null_forbidden() ? cudaErrorStreamCaptureUnsupported : release(address);
}
VISIBLE cudaError_t cudaFreeAsync(void *address, cudaStream_t stream) { return release(address); }
VISIBLE cudaError_t cudaFreeHost(void *address) { return release(address); }
VISIBLE cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *available = CAPACITY - used;
    *total = CAPACITY;
    return cudaSuccess;
}
VISIBLE cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) {
    return allocate(address, 4096, &device_region, null_allocations);
}
VISIBLE cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *address) {
    memset(found, 0, sizeof *found);
    int device = null_is_device(address), pinned = null_is_pinned(address);
    found->type = device ? cudaMemoryTypeDevice : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    found->devicePointer = device || pinned ? (void *)address : NULL;
    found->hostPointer = device ? NULL : (void *)address;
    return cudaSuccess;
}

/* Small copies are made, so that sizes, tables and keys that cross are what they should be. */
static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    int wrong = (kind == cudaMemcpyHostToDevice && (!null_is_device(to) || null_is_device(from))) ||
                (kind == cudaMemcpyDeviceToHost && (null_is_device(to) || !null_is_device(from))) ||
                (kind == cudaMemcpyDeviceToDevice && !(null_is_device(to) && null_is_device(from)));
    if (wrong) {
        null_count(null_bad_addresses);
        return cudaErrorInvalidValue;
    }
    if (bytes <= MOST_COPIED) memmove(to, from, bytes);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    null_count_on(null_copies, stream);
    int host_to = !null_is_device(to) && !null_is_pinned(to), host_from = !null_is_device(from) && !null_is_pinned(from);
    if (host_to || host_from) null_count(null_pageable_copies);
    return copy(to, from, bytes, kind);
}
VISIBLE cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    if (null_forbidden()) return cudaErrorStreamCaptureUnsupported;
    null_count(null_blocking_copies);
    return copy(to, from, bytes, kind);
}
VISIBLE cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, cudaStream_t stream) {
    null_count_on(null_copies, stream);
    return cudaSuccess;
}
static cudaError_t fill(void *address, int value, size_t bytes) {
    if (!null_is_device(address)) {
        null_count(null_bad_addresses);
        return cudaErrorInvalidValue;
    }
    if (bytes <= MOST_COPIED) memset(address, value, bytes);
    return cudaSuccess;
}
VISIBLE cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
    null_count_on(null_fills, stream);
    return fill(address, value, bytes);
}
VISIBLE cudaError_t cudaMemset(void *address, int value, size_t bytes) {
    null_count(null_fills);
    return fill(address, value, bytes);
}
