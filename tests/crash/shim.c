// Preloaded into the server by the crash test: it writes down what the process does to its database files, in order, and ends
// the process at a chosen call, as `kill -9` would. It changes nothing else. The environment says what it does:
//
//   CRASH_FILES  the path that the database's files begin with (the file itself, and whatever stands beside it by that name)
//   CRASH_LOG    file that the calls are written down in; see power.py for the form. With CRASH_DATA=1 with the bytes written
//   CRASH_KILL   LETTERS:N:WHEN, ends the process at the Nth call of these kinds: `before` it, `after` it, or `torn`, which is
//                after a part of what it writes. Kinds: w write, s sync, t truncate, u unlink, r rename
//   CRASH_SLOW   microseconds that every sync waits before it begins: an answer that does not wait for it overtakes it

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536

struct record {
    uint32_t kind;
    int32_t fd;
    int64_t offset;
    uint64_t length;
    uint64_t payload;
};

static const char *files, *kill_kinds;
static size_t files_length;
static long kill_at;
static char kill_when;
static int log_fd = -1, with_data;
static useconds_t slow;
static atomic_long counted;
static atomic_uchar tracked[FDS];

// The log is in use before any constructor of the program runs.
__attribute__((constructor(101))) static void start(void) {
    files = getenv("CRASH_FILES");
    if (!files || !*files) return;
    files_length = strlen(files);
    const char *path = getenv("CRASH_LOG");
    if (path && *path) log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    with_data = getenv("CRASH_DATA") != NULL;
    const char *micros = getenv("CRASH_SLOW");
    slow = micros ? (useconds_t)atol(micros) : 0;
    char *plan = getenv("CRASH_KILL");
    char *colon = plan ? strchr(plan, ':') : NULL;
    if (colon) {
        kill_kinds = plan;
        kill_at = strtol(colon + 1, &colon, 10);
        kill_when = colon[0] == ':' ? colon[1] : 'b';
    }
}

static void note(char kind, int fd, int64_t offset, uint64_t length, const void *payload, size_t size) {
    if (log_fd < 0) return;
    struct record record = {(uint32_t)kind, fd, offset, length, size};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)payload, size}};
    // One call, so that records of several threads do not mix.
    syscall(SYS_writev, log_fd, parts, 2);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

// What to do at a call of this kind: 0, or when to die: 'b'efore, 'a'fter, 't'orn.
static char fate(char kind) {
    if (!kill_kinds) return 0;
    for (const char *c = kill_kinds; *c != ':'; c++)
        if (*c == kind) return atomic_fetch_add(&counted, 1) + 1 == kill_at ? kill_when : 0;
    return 0;
}

static int is_ours(const char *path) { return files && path && strncmp(path, files, files_length) == 0; }
static int is_tracked(int fd) { return fd >= 0 && fd < FDS && atomic_load(&tracked[fd]); }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < FDS && is_ours(path) && (flags & O_ACCMODE) != O_RDONLY) {
        atomic_store(&tracked[fd], (flags & O_APPEND) ? 2 : 1);
        note('O', fd, flags, 0, path, strlen(path));
    }
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        return opened(real(path, flags, mode), path, flags); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        return opened(real(at, path, flags, mode), path, flags); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(close);
    if (is_tracked(fd)) {
        atomic_store(&tracked[fd], 0);
        note('C', fd, 0, 0, NULL, 0);
    }
    return real(fd);
}

static size_t part(size_t size) { return size > 1024 ? size / 2 / 512 * 512 : size / 2; }

static void noted_write(int fd, int64_t offset, const void *bytes, ssize_t done) {
    if (done > 0) note('w', fd, offset, (uint64_t)done, bytes, with_data ? (size_t)done : 0);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    if (!is_tracked(fd)) return real(fd, bytes, size);
    char when = fate('w');
    if (when == 'b') die();
    int64_t offset = atomic_load(&tracked[fd]) == 2 ? -1 : lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, bytes, when == 't' ? part(size) : size);
    int error = errno;
    noted_write(fd, offset, bytes, done);
    if (when) die();
    errno = error;
    return done;
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *bytes, size_t size, offset_type offset) { \
        REAL(name); \
        if (!is_tracked(fd)) return real(fd, bytes, size, offset); \
        char when = fate('w'); \
        if (when == 'b') die(); \
        ssize_t done = real(fd, bytes, when == 't' ? part(size) : size, offset); \
        int error = errno; \
        noted_write(fd, offset, bytes, done); \
        if (when) die(); \
        errno = error; \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNC(name) \
    int name(int fd) { \
        REAL(name); \
        if (!is_tracked(fd)) return real(fd); \
        char when = fate('s'); \
        if (when && when != 'a') die(); \
        if (slow) usleep(slow); \
        note('s', fd, 0, 0, NULL, 0); \
        int done = real(fd), error = errno; \
        if (done == 0) note('S', fd, 0, 0, NULL, 0); \
        if (when) die(); \
        errno = error; \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset_type) \
    int name(int fd, offset_type size) { \
        REAL(name); \
        if (!is_tracked(fd)) return real(fd, size); \
        char when = fate('t'); \
        if (when && when != 'a') die(); \
        int done = real(fd, size), error = errno; \
        if (done == 0) note('t', fd, size, 0, NULL, 0); \
        if (when) die(); \
        errno = error; \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(fallocate64);
    if (is_tracked(fd)) note('?', fd, offset, (uint64_t)length, "fallocate", 9);
    return real(fd, mode, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

#define REMOVE(name) \
    int name(const char *path) { \
        REAL(name); \
        if (!is_ours(path)) return real(path); \
        char when = fate('u'); \
        if (when && when != 'a') die(); \
        int done = real(path), error = errno; \
        if (done == 0) note('u', -1, 0, 0, path, strlen(path)); \
        if (when) die(); \
        errno = error; \
        return done; \
    }
REMOVE(unlink)
REMOVE(remove)

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!is_ours(from)) return real(from, to);
    char when = fate('r');
    if (when && when != 'a') die();
    int done = real(from, to), error = errno;
    if (done == 0) {
        char both[8192];
        size_t first = strlen(from), second = strlen(to);
        if (first + second + 1 < sizeof both) {
            memcpy(both, from, first + 1);
            memcpy(both + first + 1, to, second);
            note('r', -1, 0, 0, both, first + second + 1);
        }
    }
    if (when) die();
    errno = error;
    return done;
}
