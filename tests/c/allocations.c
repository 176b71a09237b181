/* Products and the quantization of activations allocate nothing once they are warm: every allocation of the process is
 * counted, the library's too, because the program's malloc stands before that of the C library. */
#include "check.h"

#include <stddef.h>

enum { M = 33, N = 96, K = 640, CALLS = 64 };

static float weights[N * K], x[M * K], y[M * N], dx[M * K], scales[N * K];
static int8_t codes[M * K];
static uint8_t bytes[2 * N * K];

#ifdef __GLIBC__
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static long allocations;

static void count(void) { __atomic_fetch_add(&allocations, 1, __ATOMIC_SEQ_CST); }

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    count();
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? 12 : 0;
}

static long counted(void) { return __atomic_load_n(&allocations, __ATOMIC_SEQ_CST); }

static setun_tensor *wrap(float *data, int64_t rows, int64_t columns) {
    int64_t dims[2];
    setun_tensor *tensor = NULL;
    dims[0] = rows;
    dims[1] = columns;
    CHECK_OK(setun_tensor_wrap(data, SETUN_DTYPE_F32, dims, 2, &tensor));
    return tensor;
}

/* Allocations in CALLS rounds of every product of `m` rows. */
static long of_products(const setun_quantize_options *options, int64_t m) {
    setun_tensor *w = wrap(weights, N, K), *in = wrap(x, m, K), *out = wrap(y, m, N);
    setun_packed *packed = NULL;
    size_t size = sizeof bytes;
    int64_t number = 0;
    long before = counted(), found = 0;
    int round, i;

    CHECK_OK(setun_scale_count(N, K, options->group, &number));
    CHECK_OK(setun_quantize(weights, N, K, options, bytes, &size, scales, number));
    CHECK_OK(setun_packed_create(NULL, w, options, &packed));
    CHECK(counted() > before); /* the matrix was: the counter sees the library */
    for (round = 0; round < 2; round++) {
        before = counted();
        for (i = 0; i < CALLS; i++) {
            CHECK_OK(setun_matmul(x, m, bytes, size, N, K, scales, number, options, y));
            CHECK_OK(setun_matmul_backward(y, m, bytes, size, N, K, scales, number, options, dx));
            CHECK_OK(setun_packed_matmul(packed, in, out));
            CHECK_OK(setun_quantize_activations(x, m, K, options, codes, scales + N * K - M));
        }
        found = counted() - before; /* of the second round: the first warms */
    }
    setun_packed_free(packed);
    setun_tensor_free(w);
    setun_tensor_free(in);
    setun_tensor_free(out);
    return found;
}

/* On `threads` threads, in every packing and by every kind of group: at most so many a round. */
static void every_product(int32_t threads, long most) {
    static const int32_t packings[] = {SETUN_PACKING_TWO_BIT, SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN};
    static const int64_t groups[] = {0, SETUN_GROUP_ROW, 128, 50}, rows[] = {1, 2, M};
    setun_context_options context_options;
    setun_quantize_options options;
    setun_context *context = NULL;
    size_t p, g, m;

    setun_context_options_init(&context_options, sizeof context_options);
    context_options.threads = threads;
    CHECK_OK(setun_context_create(&context_options, &context));
    setun_quantize_options_init(&options, sizeof options);
    options.context = context;
    for (p = 0; p < 3; p++) {
        for (g = 0; g < 4; g++) {
            for (m = 0; m < 3; m++) {
                long found;
                options.packing = packings[p];
                options.group = groups[g];
                found = of_products(&options, rows[m]);
                if (found > most) {
                    fprintf(stderr, "%d threads, packing %d, group %d, %d rows: %ld allocations in %d rounds\n",
                            (int)threads, (int)options.packing, (int)options.group, (int)rows[m], found, CALLS);
                    exit(1);
                }
            }
        }
    }
    setun_context_free(context);
}

int main(void) {
    int i;
    for (i = 0; i < N * K; i++) weights[i] = (float)(i * 7919 % 1009 - 504) / 504;
    for (i = 0; i < M * K; i++) x[i] = (float)(i * 104729 % 2003 - 1001) / 1001;
    every_product(1, 0);
    return 0;
}
#else
int main(void) {
    (void)weights, (void)x, (void)y, (void)dx, (void)scales, (void)codes, (void)bytes;
    puts("skipped: this C library's malloc is not known here");
    return 0;
}
#endif
