/* Where calls run: options, explanations, statistics, the verbose log. */
#include "check.h"

#define N 1000

static int lines;
static char last_line[1000], first_line[1000];

static void on_log(int32_t level, const char *message, void *user_data) {
    (void)user_data;
    CHECK(level == SETUN_LOG_INFO);
    if (lines++ == 0)
        strncpy(first_line, message, sizeof first_line - 1);
    strncpy(last_line, message, sizeof last_line - 1);
}

static setun_context *create(int32_t backend, int64_t least, int32_t verbose, int32_t benchmark) {
    setun_context *context = NULL;
    setun_context_options options;
    setun_context_options_init(&options, sizeof options);
    CHECK(options.min_size_for_cuda == -1 && options.min_size_for_parallel == -1);
    CHECK(options.prefer_cuda == 1 && options.prefer_parallel == 1 && options.prefer_simd == 1);
    CHECK(options.device == 0 && options.verbose == 0 && options.benchmark_mode == 0);
    options.backend = backend;
    options.threads = 2;
    options.min_size_for_parallel = least;
    options.verbose = verbose;
    options.benchmark_mode = benchmark;
    CHECK_OK(setun_context_create(&options, &context));
    return context;
}

/* The statistics of the operation of this name. */
static setun_statistics of(const setun_context *context, const char *operation) {
    setun_statistics statistics = {.struct_size = sizeof statistics};
    int64_t i;
    for (i = 0; i < setun_operation_count(); i++) {
        if (strcmp(setun_operation_name(i), operation) == 0) {
            CHECK_OK(setun_context_statistics(context, i, &statistics));
            CHECK(strcmp(statistics.operation, operation) == 0);
            CHECK(statistics.calls[SETUN_BACKEND_AUTO] ==
                  statistics.calls[SETUN_BACKEND_SCALAR] + statistics.calls[SETUN_BACKEND_SIMD] +
                      statistics.calls[SETUN_BACKEND_PARALLEL] + statistics.calls[SETUN_BACKEND_CUDA]);
            return statistics;
        }
    }
    CHECK(!"an operation of this name");
    return statistics;
}

/* Multiplies a vector [1, n] with zeros [N, n]: one call of matmul_ternary, of N * n multiplications. */
static void multiply(const setun_context *context, int64_t n) {
    static uint8_t packed[N * N];
    static const float one = 1;
    static float x[N], y[N];
    size_t bytes = (size_t)((n + 3) / 4 * N);
    setun_quantize_options options;
    setun_quantize_options_init(&options, sizeof options);
    options.context = context;
    memset(packed, 0x55, bytes); /* four codes 1 a byte: t = 0 */
    CHECK_OK(setun_matmul(x, 1, packed, bytes, N, n, &one, 1, &options, y));
}

static void statistics(void) {
    setun_context *context = create(SETUN_BACKEND_PARALLEL, 500 * N, 0, 1);
    setun_statistics found, part;
    struct {
        size_t size;
        const char *operation;
    } older = {sizeof older, NULL};
    multiply(context, 499);
    multiply(context, 500);
    multiply(context, 501);
    found = of(context, "matmul_ternary");
    CHECK(found.calls[SETUN_BACKEND_SIMD] == 1 && found.elements[SETUN_BACKEND_SIMD] == 499 * N);
    CHECK(found.calls[SETUN_BACKEND_PARALLEL] == 2 && found.elements[SETUN_BACKEND_PARALLEL] == 1001 * N);
    CHECK(found.seconds[SETUN_BACKEND_SIMD] > 0 && found.seconds[SETUN_BACKEND_PARALLEL] > 0);
    CHECK(found.seconds[SETUN_BACKEND_CUDA] == 0);
    CHECK(found.multiplies == SETUN_MULTIPLIES_INT8 && of(context, "matmul").multiplies == SETUN_MULTIPLIES_F32);
    CHECK(of(context, "add").multiplies == SETUN_MULTIPLIES_NOTHING);
    CHECK(found.bytes[SETUN_BACKEND_AUTO] > 1500 && found.bytes[SETUN_BACKEND_SIMD] > 499);
    CHECK(of(context, "quantize_activations").calls[SETUN_BACKEND_AUTO] == 3);
    CHECK(of(context, "step").calls[SETUN_BACKEND_AUTO] == 0);
    CHECK_OK(setun_context_reset_statistics(context));
    CHECK(of(context, "matmul_ternary").calls[SETUN_BACKEND_AUTO] == 0);
    CHECK(of(context, "matmul_ternary").seconds[SETUN_BACKEND_AUTO] == 0);

    CHECK(setun_operation_name(-1) == NULL && setun_operation_name(setun_operation_count()) == NULL);
    part.struct_size = sizeof part;
    CHECK_FAILS(setun_context_statistics(context, -1, &part), SETUN_ERR_ARGUMENT, "index is -1, expected 0 to ");
    CHECK_FAILS(setun_context_statistics(context, setun_operation_count(), &part), SETUN_ERR_ARGUMENT, "index is ");
    CHECK_FAILS(setun_context_statistics(context, 0, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    part.struct_size = 3;
    CHECK_FAILS(setun_context_statistics(context, 0, &part), SETUN_ERR_ABI, "struct_size is 3");
    CHECK_OK(setun_context_statistics(context, 0, (setun_statistics *)(void *)&older));
    CHECK(strcmp(older.operation, setun_operation_name(0)) == 0);
    setun_context_free(context);

    /* Without benchmark_mode calls are counted, and not timed. */
    context = create(SETUN_BACKEND_SCALAR, -1, 0, 0);
    multiply(context, 10);
    found = of(context, "matmul_ternary");
    CHECK(found.calls[SETUN_BACKEND_SCALAR] == 1 && found.elements[SETUN_BACKEND_AUTO] == 10 * N);
    CHECK(found.seconds[SETUN_BACKEND_AUTO] == 0);
    setun_context_free(context);
    CHECK_OK(setun_context_statistics(NULL, 0, &found));
}

static void explain(void) {
    char text[1000], cut[8] = "#######";
    size_t bytes = 0, counted = 0;
    setun_context *context = create(SETUN_BACKEND_PARALLEL, 100, 0, 0);
    CHECK_OK(setun_context_explain(context, "add", 99, text, sizeof text, &bytes));
    CHECK(strstr(text, "add of 99 elements runs on simd (") == text && bytes == strlen(text) + 1);
    CHECK(strstr(text, "below min_size_for_parallel, 100 elements. cuda is not used: the context was made for") != NULL);
    CHECK_OK(setun_context_explain(context, "add", 99, NULL, 0, &counted));
    CHECK(counted == bytes);
    CHECK_OK(setun_context_explain(context, "add", 99, cut, 4, NULL));
    CHECK(memcmp(cut, "add\0###", 8) == 0);
    CHECK_OK(setun_context_explain(context, "add", 100, text, sizeof text, NULL));
    CHECK(strstr(text, "add of 100 elements runs on parallel (") == text && strstr(text, "2 threads") != NULL);
    CHECK_OK(setun_context_explain(context, NULL, -1, text, sizeof text, NULL));
    CHECK(strstr(text, "operations run on parallel (") == text);
    setun_context_free(context);

    context = create(SETUN_BACKEND_PARALLEL, -1, 0, 0);
    CHECK_OK(setun_context_explain(context, "matmul", -1, text, sizeof text, NULL));
    CHECK(strstr(text, "multiplications") != NULL && strstr(text, "us for a hand-off to 2 threads") != NULL);
    CHECK_FAILS(setun_context_explain(context, "matmull", -1, text, sizeof text, NULL), SETUN_ERR_ARGUMENT,
                "operation is 'matmull', which does not exist; near it are matmul");
    CHECK_FAILS(setun_context_explain(context, "\xff", -1, text, sizeof text, NULL), SETUN_ERR_ARGUMENT, "not UTF-8");
    CHECK_FAILS(setun_context_explain(context, "add", -2, text, sizeof text, NULL), SETUN_ERR_ARGUMENT,
                "call_size is -2");
    CHECK_FAILS(setun_context_explain(context, "add", 1, NULL, 1, &bytes), SETUN_ERR_ARGUMENT, "text is NULL");
    CHECK_FAILS(setun_context_explain(context, "add", 1, text, 0, &bytes), SETUN_ERR_ARGUMENT, "capacity is 0");
    setun_context_free(context);

    /* The default context may use a GPU; it says when, or why it does not. */
    CHECK_OK(setun_context_explain(NULL, "add", 1, text, sizeof text, NULL));
    CHECK(strstr(text, ". cuda is not used: ") != NULL || strstr(text, " takes calls where ") != NULL);
}

static void refused_options(void) {
    setun_context *context = NULL;
    setun_context_options options;
    setun_context_options_init(&options, sizeof options);
    options.min_size_for_parallel = -2;
    CHECK_FAILS(setun_context_create(&options, &context), SETUN_ERR_ARGUMENT, "min_size_for_parallel is -2, expected -1");
    options.min_size_for_parallel = -1;
    options.min_size_for_cuda = INT64_MIN;
    CHECK_FAILS(setun_context_create(&options, &context), SETUN_ERR_ARGUMENT, "min_size_for_cuda is -9223372036854775808");
    options.min_size_for_cuda = 1000000;
    options.device = -1;
    CHECK_FAILS(setun_context_create(&options, &context), SETUN_ERR_ARGUMENT, "device is -1");
    CHECK(context == NULL);
}

static void verbose(void) {
    setun_context *context;
    CHECK_OK(setun_set_log(on_log, NULL, SETUN_LOG_INFO));
    context = create(SETUN_BACKEND_SIMD, -1, 1, 0);
    CHECK(lines == 1 && strstr(first_line, "context: operations run on simd (") == first_line);
    multiply(context, 10);
    CHECK(lines > 1 && strstr(last_line, "matmul_ternary: 10000 multiplications on simd (") == last_line);
    lines = 0;
    multiply(context, 10);
    CHECK(lines == 0);
    CHECK_OK(setun_set_log(NULL, NULL, SETUN_LOG_INFO));
    setun_context_free(context);
}

static void devices(void) {
    char name[256];
    size_t free = 0, total = 0, bytes = 0;
    int32_t count = -1;
    setun_context *context = NULL;
    setun_context_options options;
    setun_context_options_init(&options, sizeof options);
    options.backend = SETUN_BACKEND_CUDA;
    CHECK_FAILS(setun_device_count(NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK_OK(setun_device_count(&count));
    CHECK(count >= 0);
    CHECK_FAILS(setun_device_name(-1, name, sizeof name, NULL), SETUN_ERR_ARGUMENT, "device is -1");
    if (count == 0) {
        CHECK_STATUS(setun_device_name(0, name, sizeof name, &bytes), SETUN_ERR_DEVICE);
        CHECK_STATUS(setun_device_memory(0, &free, &total), SETUN_ERR_DEVICE);
        CHECK_STATUS(setun_context_create(&options, &context), SETUN_ERR_DEVICE);
        CHECK(strstr(setun_last_error(), "no driver: ") != NULL || strstr(setun_last_error(), "no device: ") != NULL);
        return;
    }
    CHECK_OK(setun_device_name(0, name, sizeof name, &bytes));
    CHECK(bytes == strlen(name) + 1 && bytes > 1);
    CHECK_OK(setun_device_memory(0, &free, &total));
    CHECK(free > 0 && free <= total);
    CHECK_FAILS(setun_device_name(count, name, sizeof name, NULL), SETUN_ERR_ARGUMENT, "expected below");
    if (setun_context_create(&options, &context) == SETUN_ERR_UNSUPPORTED) {
        CHECK(strstr(setun_last_error(), "compute capability") != NULL);
        return;
    }
    CHECK(context != NULL);
    multiply(context, 10);
    CHECK(of(context, "matmul_ternary").calls[SETUN_BACKEND_AUTO] == 1);
    setun_context_free(context);
}

int main(void) {
    refused_options();
    statistics();
    explain();
    verbose();
    devices();
    return 0;
}
