#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

/* What a wall clock shows that is set an hour forward and an hour back, again and again. */
static time_t step(void) { static int turn; return __sync_fetch_and_add(&turn, 1) % 2 ? 3600 : -3600; }

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec real;
    int (*get)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    get(CLOCK_REALTIME, &real);
    now->tv_sec = real.tv_sec + step();
    now->tv_usec = real.tv_nsec / 1000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*get)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = get(clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += step();
    return result;
}
