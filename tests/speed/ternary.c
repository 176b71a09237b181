/* Times one call of the quantize sections: ternary WHAT N K M PACKING SCHEME GROUP THREADS SECONDS prints the least seconds
   of a call. WHAT: quantize, unpack, matmul (plain pointers) or packed (a setun_packed). THREADS 1 is the backend simd. */
#define _POSIX_C_SOURCE 199309L
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static float *w, *x, *y, *scales;
static uint8_t *packed;
static int8_t *trits;
static size_t room, used;
static int64_t n, k, m, count;
static setun_quantize_options how;
static setun_packed *kept;
static setun_tensor *in, *out;

static setun_status work(char what)
{
    switch (what) {
    case 'q':
        used = room;
        return setun_quantize(w, n, k, &how, packed, &used, scales, count);
    case 'u':
        return setun_unpack(packed, used, n, k, &how, trits);
    case 'm':
        return setun_matmul(x, m, packed, used, n, k, scales, count, &how, y);
    default:
        return setun_packed_matmul(kept, in, out);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float gaussian(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    double u = (double)(*state >> 40) / 16777216., v = (double)(*state & 0xFFFFFF) / 16777216.;
    return (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
}

int main(int argc, char **argv)
{
    if (argc != 10)
        return 2;
    n = atoll(argv[2]), k = atoll(argv[3]), m = atoll(argv[4]);
    double least = 1e9, seconds = atof(argv[9]), start, end;
    uint64_t state = 88172645463325252u;
    setun_context_options where;
    setun_context *context = NULL;
    setun_tensor *weights = NULL;
    int64_t w_dims[2] = {n, k}, x_dims[2] = {m, k}, y_dims[2] = {m, n};
    setun_context_options_init(&where, sizeof where);
    where.threads = atoi(argv[8]);
    where.backend = where.threads == 1 ? SETUN_BACKEND_SIMD : SETUN_BACKEND_PARALLEL;
    setun_quantize_options_init(&how, sizeof how);
    int bad = setun_context_create(&where, &context);
    how.context = context, how.packing = atoi(argv[5]), how.scheme = atoi(argv[6]), how.group = atoll(argv[7]);
    bad = bad || setun_scale_count(n, k, how.group, &count) || setun_pack_size(n, k, how.packing, &room);
    w = malloc((size_t)(n * k) * sizeof *w), x = malloc((size_t)(m * k) * sizeof *x), y = malloc((size_t)(m * n) * sizeof *y);
    scales = malloc((size_t)count * sizeof *scales), packed = malloc(room), trits = malloc((size_t)(n * k));
    if (bad || w == NULL || x == NULL || y == NULL || scales == NULL || packed == NULL || trits == NULL)
        return fprintf(stderr, "%s\n", setun_last_error()), 1;
    for (int64_t i = 0; i < n * k; i++) /* a block is repeated: no speed knows */
        w[i] = i < 65536 ? gaussian(&state) : w[i - 65536];
    for (int64_t i = 0; i < m * k; i++)
        x[i] = gaussian(&state);
    bad = work('q') || setun_tensor_wrap(w, SETUN_DTYPE_F32, w_dims, 2, &weights) ||
          setun_tensor_wrap(x, SETUN_DTYPE_F32, x_dims, 2, &in) || setun_tensor_wrap(y, SETUN_DTYPE_F32, y_dims, 2, &out) ||
          setun_packed_create(context, weights, &how, &kept);
    for (end = now() + seconds; !bad && now() < end;) {
        int calls = 0;
        start = now();
        do {
            bad = bad || work(argv[1][0]);
            calls++;
        } while (now() - start < 1e-3);
        double one = (now() - start) / calls;
        least = one < least ? one : least;
    }
    if (bad)
        return fprintf(stderr, "%s\n", setun_last_error()), 1;
    printf("%.9g\n", least);
    return 0;
}
