/* What a handle costs: the least time of a call that does nothing but look its handle up, less that of a call that does
 * not, alone and while another thread looks up the same and another handle. Prints nanoseconds. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <time.h>

enum { ROUNDS = 5000, CALLS = 1000 };

static volatile int started, stop;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int before(const void *a, const void *b) {
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

/* The median of many rounds: an interrupted round does not count, a contended one does. */
static double call_time(setun_tensor *tensor) {
    static double rounds[ROUNDS];
    int round, i;
    size_t bytes;
    for (round = 0; round < ROUNDS; round++) {
        double start = now();
        for (i = 0; i < CALLS; i++) {
            if (tensor != NULL) setun_tensor_nbytes(tensor, &bytes);
            else setun_version();
        }
        rounds[round] = (now() - start) / CALLS;
    }
    qsort(rounds, ROUNDS, sizeof *rounds, before);
    return rounds[ROUNDS / 2];
}

static void *look_up(void *tensor) {
    size_t bytes;
    while (!stop) {
        setun_tensor_nbytes(tensor, &bytes);
        started = 1;
    }
    return NULL;
}

static double beside(setun_tensor *tensor, setun_tensor *other) {
    pthread_t thread;
    double time;
    started = stop = 0;
    CHECK(pthread_create(&thread, NULL, look_up, other) == 0);
    while (!started) continue;
    time = call_time(tensor);
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    return time;
}

int main(void) {
    setun_tensor *one = NULL, *two = NULL;
    int64_t size = 4;
    double call = call_time(NULL);
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, &size, 1, &one));
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, &size, 1, &two));
    printf("a handle costs %.1f ns; beside a thread on another one %.1f ns, on the same one %.1f ns\n",
           call_time(one) - call, beside(one, two) - call, beside(one, one) - call);
    setun_tensor_free(one);
    setun_tensor_free(two);
    return 0;
}
