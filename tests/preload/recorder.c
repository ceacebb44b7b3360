/* Records what a process does to some files: preloaded into it by tests, which replay the record up to a moment as if the power
 * had been cut there (tests/powercut.py).
 *
 * RECORD_FILES is the beginning of the paths that matter, RECORD_TO the file that gets the records, in the order of the calls:
 *
 *   u8 kind, u8 length of the name, u16 0, u32 length of the data, u64 offset; the name (the rest of the path); the data
 *
 * kinds: W write, T truncate (offset is the new size), S the file is synced, F it was to be synced and that failed, U unlinked.
 * The name "/" is the directory of the files, "." the file whose path is the beginning itself.
 *
 * While there is a file with the path FAIL_SYNCS, syncs fail (EIO), as on a disk that refuses writes.
 *
 * A record is appended before the call is made: a call that fails later is no promise. The syncs are the other way round: they
 * promise something, so their record comes when they have returned.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096

static char names[FILES][64];
static int record_fd = -1;
static const char *prefix;
static const char *fail_syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *target = getenv("RECORD_TO");
    prefix = getenv("RECORD_FILES");
    fail_syncs = getenv("FAIL_SYNCS");
    if (target && prefix)
        record_fd = open(target, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("LD_PRELOAD"); /* not for processes that it starts */
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static const char *name_of(int fd) { return fd >= 0 && fd < FILES && names[fd][0] ? names[fd] : NULL; }

static void record(char kind, const char *name, uint64_t offset, const void *data, uint32_t size) {
    struct { uint8_t kind, name; uint16_t zero; uint32_t size; uint64_t offset; } head = {kind, strlen(name), 0, size, offset};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)name, head.name}, {(void *)data, size}};
    pthread_mutex_lock(&lock);
    if (writev(record_fd, parts, 3) != (ssize_t)(sizeof head + head.name + size))
        abort();
    pthread_mutex_unlock(&lock);
}

static int opened(int fd, const char *path) {
    if (fd < 0 || fd >= FILES)
        return fd;
    names[fd][0] = 0;
    if (record_fd < 0 || !path)
        return fd;
    size_t length = strlen(prefix);
    if (!strncmp(path, prefix, length) && strlen(path + length) < sizeof names[0]) {
        strcpy(names[fd], path + length);
        if (!names[fd][0])
            strcpy(names[fd], ".");
    } else if (!strncmp(path, prefix, strlen(path)) && prefix + strlen(path) == strrchr(prefix, '/')) {
        strcpy(names[fd], "/");
    }
    return fd;
}

#define OPEN(NAME)                                                                   \
    int NAME(const char *path, int flags, ...) {                                     \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = va_arg(rest, mode_t);                                          \
        va_end(rest);                                                                \
        return opened(((int (*)(const char *, int, ...))next(#NAME))(path, flags, mode), path); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < FILES)
        names[fd][0] = 0;
    return ((int (*)(int))next("close"))(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    const char *name = name_of(fd);
    if (name)
        record('W', name, lseek(fd, 0, SEEK_CUR), data, size);
    return ((ssize_t (*)(int, const void *, size_t))next("write"))(fd, data, size);
}

#define PWRITE(NAME)                                                                 \
    ssize_t NAME(int fd, const void *data, size_t size, off_t offset) {              \
        const char *name = name_of(fd);                                              \
        if (name)                                                                    \
            record('W', name, offset, data, size);                                   \
        return ((ssize_t (*)(int, const void *, size_t, off_t))next(#NAME))(fd, data, size, offset); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(NAME)                                                               \
    int NAME(int fd, off_t size) {                                                   \
        const char *name = name_of(fd);                                              \
        if (name)                                                                    \
            record('T', name, size, "", 0);                                          \
        return ((int (*)(int, off_t))next(#NAME))(fd, size);                         \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(NAME)                                                                   \
    int NAME(int fd) {                                                               \
        const char *name = name_of(fd);                                              \
        if (name && fail_syncs && !access(fail_syncs, F_OK)) {                       \
            record('F', name, 0, "", 0);                                             \
            errno = EIO;                                                             \
            return -1;                                                               \
        }                                                                            \
        int result = ((int (*)(int))next(#NAME))(fd);                                \
        if (name && !result)                                                         \
            record('S', name, 0, "", 0);                                             \
        return result;                                                               \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    size_t length = prefix ? strlen(prefix) : 0;
    if (record_fd >= 0 && !strncmp(path, prefix, length) && path[length] && strlen(path + length) < sizeof names[0])
        record('U', path + length, 0, "", 0);
    return ((int (*)(const char *))next("unlink"))(path);
}
