/* Stops a process right before the n-th call that renames or links a file below a directory.
 *
 * STOPPER_BELOW is the directory, STOPPER_AT a file with n: each such call counts it down. Without the file nothing is
 * counted. Where n comes to nothing, the call is written to the file instead, and the process stops. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static int is_below(const char *directory, const char *path) {
    return path != NULL && strncmp(path, directory, strlen(directory)) == 0;
}

static void step(const char *call, const char *from, const char *to) {
    const char *directory = getenv("STOPPER_BELOW");
    const char *place = getenv("STOPPER_AT");
    if (directory == NULL || place == NULL) return;
    if (!is_below(directory, from) && !is_below(directory, to)) return;
    int stops = 0;
    pthread_mutex_lock(&counting);
    FILE *file = fopen(place, "r+");
    if (file != NULL) {
        long left = 0;
        if (fscanf(file, "%ld", &left) == 1 && left > 0) {
            rewind(file);
            stops = left == 1;
            if (stops) fprintf(file, "%s %s %s\n", call, from, to);
            else fprintf(file, "%-20ld\n", left - 1);
        }
        fclose(file);
    }
    pthread_mutex_unlock(&counting);
    if (stops) raise(SIGSTOP);
}

#define NEXT(type, name) type next = (type)dlsym(RTLD_NEXT, name)

typedef int (*two_paths)(const char *, const char *);
typedef int (*two_at)(int, const char *, int, const char *);
typedef int (*two_at_flags)(int, const char *, int, const char *, int);

int rename(const char *from, const char *to) {
    NEXT(two_paths, "rename");
    step("rename", from, to);
    return next(from, to);
}

int link(const char *from, const char *to) {
    NEXT(two_paths, "link");
    step("link", from, to);
    return next(from, to);
}

int symlink(const char *from, const char *to) {
    NEXT(two_paths, "symlink");
    step("symlink", from, to);
    return next(from, to);
}

int renameat(int in, const char *from, int into, const char *to) {
    NEXT(two_at, "renameat");
    step("rename", from, to);
    return next(in, from, into, to);
}

int renameat2(int in, const char *from, int into, const char *to, unsigned flags) {
    NEXT(two_at_flags, "renameat2");
    step("rename", from, to);
    return next(in, from, into, to, (int)flags);
}

int linkat(int in, const char *from, int into, const char *to, int flags) {
    NEXT(two_at_flags, "linkat");
    step("link", from, to);
    return next(in, from, into, to, flags);
}
