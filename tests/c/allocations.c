/* Calls on plain pointers, and products of a packed matrix, allocate nothing once they are warm: every allocation of the process is
 * counted, the library's too, because the program's malloc stands before that of the C library. */
#include "check.h"

#include <stddef.h>
#include <time.h>

enum { M = 33, N = 96, K = 640, CALLS = 64, BLOCK = 256 };

static float weights[N * K], x[M * K], y[M * N], dx[M * K], scales[N * K];
static float error[N * K], back[N * K];
static int8_t codes[N * K];
static uint8_t bytes[2 * N * K], other[2 * N * K];

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

/* The threads of a new context allocate as they start: waits until nothing did for a while. */
static void settle(void) {
    long last = counted();
    clock_t since = clock();
    while (clock() - since < CLOCKS_PER_SEC / 4) {
        if (counted() != last) {
            last = counted();
            since = clock();
        }
    }
}

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

/* Allocations in CALLS rounds of what makes and reads packed weights. */
static long of_conversions(setun_quantize_options *options) {
    static const int32_t packings[] = {SETUN_PACKING_TWO_BIT, SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN};
    static const int32_t schemes[] = {SETUN_SCHEME_ABSMEAN, SETUN_SCHEME_ABSMEDIAN, SETUN_SCHEME_LEAST_SQUARES,
                                      SETUN_SCHEME_THRESHOLD};
    setun_quantize_report report;
    int64_t number = 0, counts[3];
    long before, found = 0;
    size_t i, to;
    int round;

    CHECK_OK(setun_scale_count(N, K, options->group, &number));
    report.struct_size = sizeof report;
    for (round = 0; round < 2; round++) {
        before = counted();
        for (i = 0; i < CALLS; i++) {
            size_t size = sizeof bytes;
            options->scheme = schemes[i % 4];
            options->threshold = 0.3f;
            options->rounding = i % 8 < 4 ? SETUN_ROUNDING_NEAREST : SETUN_ROUNDING_STOCHASTIC;
            CHECK_OK(setun_quantize(weights, N, K, options, bytes, &size, scales, number));
            CHECK_OK(setun_dequantize(bytes, size, N, K, scales, number, options, back));
            CHECK_OK(setun_quantize_measure(weights, N, K, bytes, size, scales, number, options, &report));
            CHECK_OK(setun_trit_histogram(bytes, size, N, K, options, counts));
            CHECK_OK(setun_unpack(bytes, size, N, K, options, codes));
            size = sizeof bytes;
            CHECK_OK(setun_pack(codes, N, K, options, bytes, &size));
            for (to = 0; to < 3; to++) {
                setun_quantize_options target = *options;
                size_t used = sizeof other;
                target.packing = packings[to];
                CHECK_OK(setun_repack(bytes, size, N, K, options->packing, &target, other, &used));
            }
        }
        found = counted() - before; /* of the second round: the first warms */
    }
    return found;
}

/* Allocations in CALLS rounds of what packs gradients. */
static long of_gradients(const setun_quantize_options *options) {
    long before, found = 0;
    int round, i;

    for (round = 0; round < 2; round++) {
        before = counted();
        for (i = 0; i < CALLS; i++) {
            size_t size = sizeof bytes;
            CHECK_OK(setun_quantize_gradients(weights, N * K, BLOCK, 1, 2, 3, options, codes, scales));
            CHECK_OK(setun_dequantize_gradients(codes, scales, N * K, BLOCK, options, back));
            CHECK_OK(setun_ternarize_gradients(weights, N * K, BLOCK, options, error, bytes, &size, scales));
            CHECK_OK(setun_deternarize_gradients(bytes, size, scales, N * K, BLOCK, options, back));
        }
        found = counted() - before; /* of the second round: the first warms */
    }
    return found;
}

/* The float products of the head ask for two blocks of memory for each of their blocks, eight or so in a step of this size; nothing
 * else does after the first steps. Muon has 15 of them for each of its 24 matrices. Where gradients are released, each of 18 stages
 * has lists of its own of views and thresholds. */
enum { STEP_ALLOCATIONS = 40, MUON_ALLOCATIONS = 1000, RELEASED_ALLOCATIONS = 80 };

static void of_steps(int32_t threads, int step, long before) {
    if (step <= 3 || counted() - before <= STEP_ALLOCATIONS) return;
    fprintf(stderr, "%d threads: %ld allocations in step %d\n", (int)threads, counted() - before, step + 1);
    exit(1);
}

/* A loop of the program's own over a model and its gradients. */
static void of_own_loop(int32_t threads, setun_model *model, const uint32_t *tokens) {
    enum { MOST = 64 };
    float *gradients[MOST];
    int64_t count = 0, sizes[MOST], dims[SETUN_MAX_RANK], i;
    double loss;
    int step;
    CHECK_OK(setun_model_tensor_count(model, &count));
    CHECK(count <= MOST);
    for (i = 0; i < count; i++) {
        CHECK_OK(setun_model_tensor_describe(model, i, NULL, NULL, dims, NULL));
        sizes[i] = dims[0] * dims[1];
        gradients[i] = malloc((size_t)sizes[i] * sizeof(float));
    }
    for (step = 0; step < 10; step++) {
        long before = counted();
        CHECK_OK(setun_model_backward(model, tokens, tokens + 1, 12, 64, NULL, &loss, gradients, count));
        for (i = 0; i < count; i++) CHECK_OK(setun_model_tensor_write(model, i, gradients[i], sizes[i]));
        of_steps(threads, step, before);
    }
    for (i = 0; i < count; i++) free(gradients[i]);
}

static void of_training(int32_t threads, int32_t method, int32_t states, int32_t released) {
    static uint32_t tokens[4000];
    setun_context_options context_options;
    setun_model_options model_options;
    setun_train_options options;
    setun_context *context = NULL;
    setun_dataset *dataset = NULL;
    setun_model *model = NULL;
    setun_trainer *trainer = NULL;
    const long most =
        (method == SETUN_STEP_METHOD_MUON ? MUON_ALLOCATIONS : STEP_ALLOCATIONS) + (released ? RELEASED_ALLOCATIONS : 0);
    int i;
    setun_context_options_init(&context_options, sizeof context_options);
    context_options.threads = threads;
    CHECK_OK(setun_context_create(&context_options, &context));
    for (i = 0; i < 4000; i++) tokens[i] = (uint32_t)(i * 7919 % 65);
    CHECK_OK(setun_dataset_from_tokens(tokens, 4000, 65, 0.1, &dataset));
    setun_model_options_init(&model_options, sizeof model_options);
    model_options.vocabulary = 65;
    CHECK_OK(setun_model_create(context, &model_options, &model));
    setun_train_options_init(&options, sizeof options);
    options.max_steps = 20;
    options.batch_size = 12;
    options.n_clusters = 0;
    options.log_interval = 1000;
    options.method = method;
    options.states = states;
    options.flip_budget = states == SETUN_STATE_PRECISION_F32 ? 1 : .01;
    options.guard = states != SETUN_STATE_PRECISION_F32 && !released;
    options.gradient_release = released;
    if (released) options.clip = 0;
    options.guard_interval = 2;
    CHECK_OK(setun_trainer_create(model, dataset, NULL, &options, &trainer));
    for (i = 0; i < 10; i++) {
        long before = counted();
        CHECK_OK(setun_trainer_step(trainer, NULL));
        if (i > 3 && counted() - before > most) {
            fprintf(stderr, "%d threads, method %d, states %d, %sreleased: %ld allocations in step %d\n", (int)threads,
                    (int)method, (int)states, released ? "" : "not ", counted() - before, i + 1);
            exit(1);
        }
    }
    setun_trainer_free(trainer);
    of_own_loop(threads, model, tokens);
    setun_model_free(model);
    setun_dataset_free(dataset);
    setun_context_free(context);
}

static void at_most(long most, long found, int32_t threads, const setun_quantize_options *options, const char *what) {
    if (found <= most) return;
    fprintf(stderr, "%d threads, packing %d, group %d, %s: %ld allocations in %d rounds\n", (int)threads,
            (int)options->packing, (int)options->group, what, found, CALLS);
    exit(1);
}

/* On `threads` threads, in every packing and by every kind of group. */
static void every_call(int32_t threads, long most) {
    static const int32_t packings[] = {SETUN_PACKING_TWO_BIT, SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN};
    static const int64_t groups[] = {0, SETUN_GROUP_ROW, 128, 50};
    setun_context_options context_options;
    setun_quantize_options options, changed;
    setun_context *context = NULL;
    size_t p, g;

    setun_context_options_init(&context_options, sizeof context_options);
    context_options.threads = threads;
    context_options.min_size_for_parallel = 0;
    CHECK_OK(setun_context_create(&context_options, &context));
    setun_quantize_options_init(&options, sizeof options);
    options.context = context;
    settle();
    for (p = 0; p < 3; p++) {
        for (g = 0; g < 4; g++) {
            options.packing = packings[p];
            options.group = groups[g];
            at_most(most, of_products(&options, 1), threads, &options, "products of a row");
            at_most(most, of_products(&options, 2), threads, &options, "products of 2 rows");
            at_most(most, of_products(&options, M), threads, &options, "products of 33 rows");
            changed = options;
            at_most(most, of_conversions(&changed), threads, &options, "conversions");
        }
    }
    at_most(most, of_gradients(&options), threads, &options, "gradients");
    setun_context_free(context);
}

int main(void) {
    int i;
    for (i = 0; i < N * K; i++) weights[i] = (float)(i * 7919 % 1009 - 504) / 504;
    for (i = 0; i < M * K; i++) x[i] = (float)(i % 2003 * 104729 % 2003 - 1001) / 1001;
    every_call(1, 0);
    /* A thread may have its first share of a product late. */
    every_call(2, CALLS / 4);
    for (i = 1; i <= 2; i++) {
        of_training(i, SETUN_STEP_METHOD_ADAMW, SETUN_STATE_PRECISION_F32, 0);
        of_training(i, SETUN_STEP_METHOD_ADAMW, SETUN_STATE_PRECISION_INT8, 0);
        of_training(i, SETUN_STEP_METHOD_ADAMW, SETUN_STATE_PRECISION_COMPACT, 0);
        of_training(i, SETUN_STEP_METHOD_MUON, SETUN_STATE_PRECISION_COMPACT, 0);
        of_training(i, SETUN_STEP_METHOD_ADAMW, SETUN_STATE_PRECISION_F32, 1);
        of_training(i, SETUN_STEP_METHOD_ADAMW, SETUN_STATE_PRECISION_COMPACT, 1);
        of_training(i, SETUN_STEP_METHOD_MUON, SETUN_STATE_PRECISION_COMPACT, 1);
    }
    return 0;
}
#else
int main(void) {
    (void)weights, (void)x, (void)y, (void)dx, (void)scales, (void)error, (void)back, (void)codes, (void)bytes, (void)other;
    puts("skipped: this C library's malloc is not known here");
    return 0;
}
#endif
