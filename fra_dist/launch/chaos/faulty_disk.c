/* A disk that errs at its N-th call: preloaded into a process, told what to do by faulty_set() (from ctypes), or by a
   file: where FRA_DIST_FAULTY_DISK=FOLDER is set when the process starts, FOLDER/PID is looked for at each call below
   FOLDER/run, once per process; it holds the kinds, N, the number of times, errno and mode, and becomes PID.struck
   when the fault happens.

   Calls are counted below one folder only. Every kind has a letter: o open, r read, w write, s fsync, n rename,
   t stat, d opendir, f flock, u unlink, c truncate. modes: 0 fail with errno, 1 cut short (half the bytes), 2 kill, 3 hang. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char below[PATH_MAX], kinds[16], orders[PATH_MAX + 32];
static long wanted, left_to_fail, counted;
static int number, mode, busy;
static pid_t own;
static __thread int inside;

void faulty_set(const char *folder, const char *of, long nth, long times, int error, int how) {
  snprintf(below, sizeof below, "%s", folder);
  snprintf(kinds, sizeof kinds, "%s", of);
  wanted = nth, left_to_fail = times, number = error, mode = how, counted = 0;
}

long faulty_count(void) { return counted; }

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("FRA_DIST_FAULTY_DISK");
  if (!folder || strlen(folder) > PATH_MAX - 8) return;
  snprintf(orders, sizeof orders, "%s/%d", folder, (int)getpid());
  snprintf(below, sizeof below, "%s/run", folder);
  own = getpid();
}

static void read_orders(void) {
  char words[16];
  long nth, times;
  int error, how, kept = errno;
  inside = 1;
  FILE *file = fopen(orders, "re");
  if (file) {
    if (fscanf(file, "%15s %ld %ld %d %d", words, &nth, &times, &error, &how) == 5) {
      strcpy(kinds, words);
      number = error, mode = how, left_to_fail = times, counted = 0, wanted = nth;
    }
    fclose(file);
  }
  inside = 0;
  errno = kept;
}

static void report(void) {
  char struck[sizeof orders + 8];
  int kept = errno;
  inside = 1;
  snprintf(struck, sizeof struck, "%s.struck", orders);
  rename(orders, struck);
  inside = 0;
  errno = kept;
}

static int strikes(char kind, const char *path) {
  if (!below[0] || inside || strncmp(path, below, strlen(below))) return 0;
  if (orders[0]) {
    if (getpid() != own) return 0;
    if (!wanted && !__sync_lock_test_and_set(&busy, 1)) {
      if (!wanted) read_orders();
      __sync_lock_release(&busy);
    }
  }
  if (!strchr(kinds, kind)) return 0;
  long now = __sync_add_and_fetch(&counted, 1);
  if (!wanted || now < wanted || left_to_fail == 0) return 0;
  if (left_to_fail > 0) left_to_fail--;
  if (orders[0]) report();
  if (mode == 2) kill(getpid(), SIGKILL);
  if (mode == 3) for (;;) pause();
  return 1;
}

static int at_path(char kind, int folder, const char *path) {
  char whole[PATH_MAX] = "";
  if (!below[0] || !path) return 0;
  if (path[0] == '/' || folder == AT_FDCWD) return strikes(kind, path);
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t size = readlink(link, whole, sizeof whole - 1);
  if (size < 0 || size + strlen(path) + 2 > sizeof whole) return 0;
  whole[size] = '/';
  strcpy(whole + size + 1, path);
  return strikes(kind, whole);
}

static int at_file(char kind, int file) {
  char link[64], path[PATH_MAX];
  if (!below[0]) return 0;
  int kept = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = kept;
  if (size < 0) return 0;
  path[size] = 0;
  return strikes(kind, path);
}

#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = dlsym(RTLD_NEXT, name)
#define FAIL(value) do { if (mode == 0) { errno = number; return value; } } while (0)
#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
    if (at_path('o', AT_FDCWD, path)) FAIL(-1); \
    REAL(int, #name, const char *, int, mode_t); return real(path, flags, bits); }
#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
    if (at_path('o', folder, path)) FAIL(-1); \
    REAL(int, #name, int, const char *, int, mode_t); return real(folder, path, flags, bits); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

#define MOVE(kind, name, pointer) \
  ssize_t name(int file, pointer data, size_t size) { \
    if (at_file(kind, file)) { FAIL(-1); if (size > 1) size /= 2; } \
    REAL(ssize_t, #name, int, pointer, size_t); return real(file, data, size); }
#define MOVE_AT(kind, name, pointer) \
  ssize_t name(int file, pointer data, size_t size, off64_t offset) { \
    if (at_file(kind, file)) { FAIL(-1); if (size > 1) size /= 2; } \
    REAL(ssize_t, #name, int, pointer, size_t, off64_t); return real(file, data, size, offset); }
MOVE('r', read, void *) MOVE('w', write, const void *)
MOVE_AT('r', pread, void *) MOVE_AT('r', pread64, void *) MOVE_AT('w', pwrite, const void *) MOVE_AT('w', pwrite64, const void *)

int fsync(int file) { if (at_file('s', file)) FAIL(-1); REAL(int, "fsync", int); return real(file); }
#define CUT(name, type) \
  int name(const char *path, type size) { \
    if (at_path('c', AT_FDCWD, path)) FAIL(-1); \
    REAL(int, #name, const char *, type); return real(path, size); }
#define CUT_FILE(name, type) \
  int name(int file, type size) { if (at_file('c', file)) FAIL(-1); REAL(int, #name, int, type); return real(file, size); }
CUT(truncate, off_t) CUT(truncate64, off64_t) CUT_FILE(ftruncate, off_t) CUT_FILE(ftruncate64, off64_t)
int flock(int file, int how) { if (at_file('f', file)) FAIL(-1); REAL(int, "flock", int, int); return real(file, how); }
int rename(const char *from, const char *to) {
  if (at_path('n', AT_FDCWD, from)) FAIL(-1);
  REAL(int, "rename", const char *, const char *); return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
  if (at_path('n', a, from)) FAIL(-1);
  REAL(int, "renameat", int, const char *, int, const char *); return real(a, from, b, to); }
int unlink(const char *path) { if (at_path('u', AT_FDCWD, path)) FAIL(-1); REAL(int, "unlink", const char *); return real(path); }
int unlinkat(int folder, const char *path, int flags) {
  if (at_path('u', folder, path)) FAIL(-1);
  REAL(int, "unlinkat", int, const char *, int); return real(folder, path, flags); }
DIR *opendir(const char *path) { if (at_path('d', AT_FDCWD, path)) FAIL(NULL); REAL(DIR *, "opendir", const char *); return real(path); }
DIR *fdopendir(int file) { if (at_file('d', file)) FAIL(NULL); REAL(DIR *, "fdopendir", int); return real(file); }
#define STAT(name, type) \
  int name(const char *path, type *out) { \
    if (at_path('t', AT_FDCWD, path)) FAIL(-1); \
    REAL(int, #name, const char *, type *); return real(path, out); }
#define STATAT(name, type) \
  int name(int folder, const char *path, type *out, int flags) { \
    if (at_path('t', folder, path)) FAIL(-1); \
    REAL(int, #name, int, const char *, type *, int); return real(folder, path, out, flags); }
STAT(stat, struct stat) STAT(stat64, struct stat64) STAT(lstat, struct stat) STAT(lstat64, struct stat64)
STATAT(fstatat, struct stat) STATAT(fstatat64, struct stat64)
int fstat(int file, struct stat *out) { if (at_file('t', file)) FAIL(-1); REAL(int, "fstat", int, struct stat *); return real(file, out); }
int fstat64(int file, struct stat64 *out) { if (at_file('t', file)) FAIL(-1); REAL(int, "fstat64", int, struct stat64 *); return real(file, out); }
