/* File locks that fail, or that seem to succeed and lock nothing, as some network file systems have them.
   cc -shared -fPIC -o locks.so locks.c -ldl;  LOCKS=fail|lie LD_PRELOAD=./locks.so COMMAND */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

static int answer(void) {
    const char *how = getenv("LOCKS");
    if (how && !strcmp(how, "lie"))
        return 0;
    errno = ENOLCK;
    return -1;
}

static int is_lock(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

#define FCNTL(name)                                                        \
    int name(int file, int command, ...) {                                 \
        va_list rest;                                                      \
        va_start(rest, command);                                           \
        void *argument = va_arg(rest, void *);                             \
        va_end(rest);                                                      \
        if (is_lock(command))                                              \
            return answer();                                               \
        int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name);              \
        return real(file, command, argument);                              \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

int flock(int file, int operation) {
    (void)file;
    (void)operation;
    return answer();
}
