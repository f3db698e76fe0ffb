#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/stat.h>
#include <limits.h>
/* A folder ($WITHOUT) on a file system that has no locks, no links, and no renames over an existing file. */
static int within(const char *path) {
    const char *root = getenv("WITHOUT");
    char whole[PATH_MAX];
    if (!root) return 0;
    if (path[0] != '/') { if (!getcwd(whole, sizeof whole - strlen(path) - 2)) return 0; strcat(whole, "/"); strcat(whole, path); path = whole; }
    return strncmp(path, root, strlen(root)) == 0;
}
static int fd_within(int fd) {
    char name[64], target[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, target, sizeof target - 1);
    if (size < 0) return 0;
    target[size] = 0;
    return within(target);
}
int flock(int fd, int operation) {
    int (*next)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (fd_within(fd)) { errno = ENOSYS; return -1; }
    return next(fd, operation);
}
int link(const char *from, const char *to) {
    int (*next)(const char *, const char *) = dlsym(RTLD_NEXT, "link");
    if (within(to)) { errno = EPERM; return -1; }
    return next(from, to);
}
int rename(const char *from, const char *to) {
    int (*next)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    struct stat found;
    if (within(to) && lstat(to, &found) == 0) { errno = EEXIST; return -1; }
    return next(from, to);
}
