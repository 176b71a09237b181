/*
 * Work on a CUDA device, beside the same work on the CPU; tests/c_programs/cuda.rs gives it an emulated one. With the argument
 * "fork", what a forked child can do. With "leave", calls that a context may make anywhere, on a device that fails.
 */
#define _DEFAULT_SOURCE
#include "../check.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#define M 5
#define N 33
#define K 70

static float weights[N * K], x[M * K];

static void numbers(float *out, int count, unsigned seed) {
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)(int32_t)seed / 2147483648.0f;
    }
}

/* A context that insists on a backend, or, with AUTO, may have the device make every call. */
static setun_context *create(int32_t backend) {
    setun_context *context = NULL;
    setun_context_options options;
    setun_context_options_init(&options, sizeof options);
    options.backend = backend;
    options.threads = 2;
    options.min_size_for_cuda = 0;
    CHECK_OK(setun_context_create(&options, &context));
    return context;
}

/* Calls of all operations on a backend. */
static int64_t calls(const setun_context *context, int32_t backend) {
    int64_t sum = 0;
    for (int64_t i = 0; i < setun_operation_count(); i++) {
        setun_statistics statistics = {.struct_size = sizeof statistics};
        CHECK_OK(setun_context_statistics(context, i, &statistics));
        sum += statistics.calls[backend];
    }
    return sum;
}

/* Everything here is the same bits on every backend. */
typedef struct {
    uint8_t packed[N * K];
    size_t packed_size;
    float scales[N], y[M * N], back[N * K], centroids[3 * K];
    int32_t labels[N];
    double inertia;
} results;

static void compute(const setun_context *context, results *out) {
    setun_quantize_options quantize;
    setun_kmeans_options kmeans;
    setun_quantize_options_init(&quantize, sizeof quantize);
    quantize.context = context;
    quantize.group = SETUN_GROUP_ROW;
    out->packed_size = sizeof out->packed;
    CHECK_OK(setun_quantize(weights, N, K, &quantize, out->packed, &out->packed_size, out->scales, N));
    CHECK_OK(setun_matmul(x, M, out->packed, out->packed_size, N, K, out->scales, N, &quantize, out->y));
    CHECK_OK(setun_dequantize(out->packed, out->packed_size, N, K, out->scales, N, &quantize, out->back));
    setun_kmeans_options_init(&kmeans, sizeof kmeans);
    kmeans.context = context;
    CHECK_OK(setun_cluster(weights, N, K, 3, &kmeans, out->labels, out->centroids, &out->inertia));
}

static results expected, found;

static void same_bits(const setun_context *context) {
    memset(&found, 0, sizeof found);
    compute(context, &found);
    CHECK(memcmp(&found, &expected, sizeof found) == 0);
}

static double losses[2][8];

static int32_t on_progress(const setun_metrics *metrics, void *user_data) {
    double *into = user_data;
    into[metrics->step - 1] = metrics->loss;
    return 1;
}

/* A few steps of a tiny model. What its sums differ by in the last bits, training makes larger. */
static void train(const setun_context *context, double *into) {
    setun_model_options geometry;
    setun_train_options options;
    setun_model *model = NULL;
    setun_model_options_init(&geometry, sizeof geometry);
    geometry.context_length = 16;
    geometry.width = 32;
    geometry.layers = 2;
    geometry.heads = 2;
    setun_train_options_init(&options, sizeof options);
    options.context = context;
    options.batch_size = 2;
    options.max_steps = 8;
    options.warmup_steps = 2;
    options.model = &geometry;
    options.progress = on_progress;
    options.user_data = into;
    CHECK_OK(setun_train("corpus.txt", &options, &model, NULL));
    setun_model_free(model);
}

static void work(void) {
    setun_context *cpu = create(SETUN_BACKEND_SIMD), *cuda = create(SETUN_BACKEND_CUDA), *either = create(SETUN_BACKEND_AUTO);
    int32_t backend = -1;
    FILE *file = fopen("corpus.txt", "wb");
    CHECK(file != NULL);
    for (int i = 0; i < 100; i++) fprintf(file, "the %s sat on the %s.\n", i % 3 ? "cat" : "dog", i % 5 ? "mat" : "hat");
    CHECK(fclose(file) == 0);
    compute(cpu, &expected);
    same_bits(cuda);
    same_bits(either);
    CHECK(calls(cpu, SETUN_BACKEND_CUDA) == 0 && calls(cuda, SETUN_BACKEND_CUDA) > 0);
    CHECK(calls(either, SETUN_BACKEND_CUDA) > 0);
    CHECK_OK(setun_context_backend(either, &backend));
    CHECK(backend == SETUN_BACKEND_PARALLEL);
    train(cpu, losses[0]);
    train(cuda, losses[1]);
    /* Later, roundings fall to the other side: src/train/tests/cuda.rs measures how far that leads. */
    CHECK_NEAR(losses[1][0], losses[0][0], 1e-4);
    for (int i = 1; i < 8; i++) CHECK_NEAR(losses[1][i], losses[0][i], 2e-2);
    CHECK(losses[1][7] < losses[1][0]);
    setun_context_free(cpu);
    setun_context_free(cuda);
    setun_context_free(either);
}

static void fork_and_work(void) {
    setun_context *cpu = create(SETUN_BACKEND_SIMD), *cuda = create(SETUN_BACKEND_CUDA), *either = create(SETUN_BACKEND_AUTO);
    setun_quantize_options options;
    int status = 0;
    compute(cpu, &expected);
    same_bits(cuda);
    same_bits(either);
    if (fork() == 0) {
        setun_context *another = NULL;
        setun_context_options how;
        setun_quantize_options_init(&options, sizeof options);
        options.context = cuda;
        found.packed_size = sizeof found.packed;
        CHECK_FAILS(setun_matmul(x, M, expected.packed, expected.packed_size, N, K, expected.scales, 1, &options, found.y),
                    SETUN_ERR_STATE, "forked");
        setun_context_options_init(&how, sizeof how);
        how.backend = SETUN_BACKEND_CUDA;
        CHECK_FAILS(setun_context_create(&how, &another), SETUN_ERR_STATE, "forked");
        same_bits(cpu);
        same_bits(either);
        setun_context_free(cuda);
        setun_context_free(either);
        fflush(stdout);
        _exit(0);
    }
    CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    same_bits(cuda);
    setun_context_free(cpu);
    setun_context_free(cuda);
    setun_context_free(either);
}

static int warnings;

static void on_log(int32_t level, const char *message, void *user_data) {
    (void)level, (void)user_data;
    CHECK(strstr(message, "CPU takes") != NULL);
    warnings++;
}

static void leave(void) {
    setun_context *cpu = create(SETUN_BACKEND_SIMD), *either = create(SETUN_BACKEND_AUTO);
    CHECK_OK(setun_set_log(on_log, NULL, SETUN_LOG_WARNING));
    compute(cpu, &expected);
    same_bits(either);
    CHECK(warnings == 1 && calls(either, SETUN_BACKEND_CUDA) == 0);
    setun_context_free(cpu);
    setun_context_free(either);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    numbers(weights, N * K, 1);
    numbers(x, M * K, 2);
    if (strcmp(wanted, "fork") == 0)
        fork_and_work();
    else if (strcmp(wanted, "leave") == 0)
        leave();
    else
        work();
    return 0;
}
