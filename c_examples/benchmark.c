/* Times every operation on every backend: cc -std=c99 -O2 -I../include benchmark.c breakdown.c arguments.c -L../target/release -lsetun
   -Wl,-rpath,../target/release -o benchmark && ./benchmark --quick */
#include "arguments.h"
#include "breakdown.h"

#include <inttypes.h>
#include <setun.h>
#include <stdio.h>
#include <string.h>

static const char about[] =
    "benchmark: how fast each operation runs on each backend and CPU level, beside what this machine can do at all.\n\n"
    "  benchmark --filter matmul\n\n"
    "Times are the least of many; the median stands beside it. 'of read 16 MiB' is the share of the ceiling that bounds\n"
    "the operation, measured in the same run. About two minutes in all, and more with a GPU.\n\n"
    "With --parity nothing is timed: every operation is compared on every backend and CPU level of this machine with\n"
    "scalar, and a difference ends the program with status 1.\n\n"
    "With --train a small model is trained for some steps, and what each operation took of them is printed. Defaults in\n"
    "brackets.";

/* How to print, the case that is being printed, and what a comparison came to. */
typedef struct {
    int32_t json;
    long compared, on_cuda, differ;
    setun_context *context; /* whose dispatcher is asked what it would choose */
    char operation[64], sizes[64];
} output;

static const char *duration(double seconds, char *text)
{
    static const char *const units[] = {"s ", "ms", "us", "ns"};
    int unit = 0;
    while (seconds < .9995 && unit < 3)
        seconds *= 1000, unit++;
    snprintf(text, 24, "%.4g %s", seconds, units[unit]);
    return text;
}

static const char *place(const setun_benchmark_result *r, char *text)
{
    if (r->backend == SETUN_BACKEND_PARALLEL)
        snprintf(text, 40, "%s, %d threads", r->backend_name, (int)r->threads);
    else
        snprintf(text, 40, *r->level != '\0' ? "%s, %s" : "%s", r->backend_name, r->level);
    return text;
}

static void print_line(const output *o, const setun_benchmark_result *r)
{
    char where[40], least[24], median[24], choice[1000] = "";
    int first = strcmp(o->operation, r->operation) != 0 || strcmp(o->sizes, r->sizes) != 0;
    if (first && !r->is_ceiling) {
        setun_context_explain(o->context, r->operation, r->call_size, choice, sizeof choice, NULL);
        printf("\n%s  %s\n  dispatcher: %.*s\n", r->operation, r->sizes, (int)strcspn(choice, ":"), choice); /* not why */
    }
    if (r->is_ceiling)
        printf("%-10s %-8s ", r->operation, r->sizes);
    printf("  %-22s %10s (median %9s) %9.4g %-7s", place(r, where), duration(r->seconds, least),
           duration(r->median_seconds, median), r->rate, r->unit);
    if (r->share == r->share) /* not NaN */
        printf("  %5.1f%% of %-12s", 100 * r->share, r->ceiling);
    if (r->speedup == r->speedup)
        printf("  %6.1fx scalar", r->speedup);
    printf("\n");
}

static void print_number(const char *name, double value)
{
    if (value == value)
        printf(", \"%s\": %.12g", name, value);
    else
        printf(", \"%s\": null", name);
}

static void print_json(const setun_benchmark_result *r)
{
    printf("{\"operation\": \"%s\", \"sizes\": \"%s\", \"backend\": \"%s\", \"level\": \"%s\", \"threads\": %d", r->operation,
           r->sizes, r->backend_name, r->level, (int)r->threads);
    print_number("seconds", r->seconds);
    print_number("median_seconds", r->median_seconds);
    print_number("rate", r->rate);
    printf(", \"unit\": \"%s\", \"ceiling\": \"%s\", \"is_ceiling\": %s", r->unit, r->ceiling, r->is_ceiling ? "true" : "false");
    print_number("share", r->share);
    print_number("speedup", r->speedup);
    print_number("operations", r->operations);
    print_number("bytes", r->bytes);
    printf(", \"call_size\": %" PRId64 ", \"repeats\": %" PRId64, r->call_size, r->repeats);
    if (r->agrees >= 0)
        printf(", \"agrees\": %s, \"difference\": \"%s\"", r->agrees ? "true" : "false", r->difference);
    printf("}\n");
}

/* A line for each case, and one for each row that differs. */
static void print_comparison(const output *o, const setun_benchmark_result *r)
{
    char where[40];
    if (strcmp(o->operation, r->operation) != 0 || strcmp(o->sizes, r->sizes) != 0)
        printf("%s  %s\n", r->operation, r->sizes);
    if (r->agrees == 0)
        printf("  DIFFERS on %s: %s\n", place(r, where), r->difference);
}

static int32_t show(const setun_benchmark_result *r, void *user_data)
{
    output *o = user_data;
    o->compared += r->agrees >= 0 && r->backend != SETUN_BACKEND_SCALAR;
    o->on_cuda += r->agrees >= 0 && r->backend == SETUN_BACKEND_CUDA;
    o->differ += r->agrees == 0;
    if (o->json)
        print_json(r);
    else if (r->agrees >= 0)
        print_comparison(o, r);
    else
        print_line(o, r);
    snprintf(o->operation, sizeof o->operation, "%s", r->operation);
    snprintf(o->sizes, sizeof o->sizes, "%s", r->sizes);
    return fflush(stdout) == 0; /* a closed pipe ends the run */
}

/* The first line of a file that begins with `key`, from behind the key on; "unknown" where there is none. */
static const char *line_of(const char *path, const char *key, char *text)
{
    char line[256];
    FILE *file = fopen(path, "r");
    snprintf(text, sizeof line, "unknown");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *value = line + strlen(key);
        value += strspn(value, " \t:");
        snprintf(text, sizeof line, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (file != NULL)
        fclose(file);
    return text;
}

static setun_status print_header(const setun_context *context, const char *level)
{
    char cpu[256], load[256];
    int32_t threads = 0;
    setun_status status = setun_context_threads(context, &threads);
    if (status == SETUN_OK && level == NULL)
        status = setun_context_level(context, &level);
    if (status == SETUN_OK)
        printf("setun %s, %s, level %s, threads %d, load %.4s\n", setun_version_string(),
               line_of("/proc/cpuinfo", "model name", cpu), level, (int)threads, line_of("/proc/loadavg", "", load));
    return status;
}

int main(int argc, char **argv)
{
    output o = {0, 0, 0, 0, NULL, "", ""};
    int64_t threads = 0;
    int32_t train = 0, backend = 0;
    breakdown_options training = {0, 0, 0, 0, 0, SETUN_GRADIENT_PRODUCTS_INT8, SETUN_GRADIENT_PRODUCTS_INT8, 0};
    setun_context_options where;
    setun_benchmark_options how;
    setun_benchmark_options_init(&how, sizeof how);
    const argument table[] = {
        {"filter", ARGUMENT_TEXT, &how.filter, NULL, "only operations with this in their name"},
        {"backend", ARGUMENT_CHOICE, &backend, "all|scalar|simd|parallel|cuda", "only this one"},
        {"level", ARGUMENT_TEXT, &how.level, NULL, "only this CPU level: baseline, x86-64-v3, x86-64-v4 or x86-64-v4+vnni; default: all"},
        {"threads", ARGUMENT_COUNT, &threads, NULL, "of parallel; 0 = as many as there are"},
        {"seconds", ARGUMENT_REAL, &how.seconds, NULL, "for each operation, size and backend"},
        {"quick", ARGUMENT_FLAG, &how.quick, NULL, "the smallest size of each, in some seconds"},
        {"parity", ARGUMENT_FLAG, &how.parity, NULL, "compare every backend and level with scalar instead of timing"},
        {"json", ARGUMENT_FLAG, &o.json, NULL, "a line of JSON for each result"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "A training step"},
        {"train", ARGUMENT_FLAG, &train, NULL, "break a training step down instead"},
        {"size", ARGUMENT_CHOICE, &training.size, "S|M", "4 layers x 128, context 64, batch 12; 6 x 384, 256, 64"},
        {"batch", ARGUMENT_COUNT, &training.batch, NULL, "windows a step; 0 = those of the size"},
        {"steps", ARGUMENT_COUNT, &training.steps, NULL, "timed steps; 0 = a few seconds' worth"},
        {"f32", ARGUMENT_FLAG, &training.f32, NULL, "the same model in plain floats"},
        {"input-gradient", ARGUMENT_CHOICE, &training.input_gradient, "f32|int8", "numbers of the gradients to activations"},
        {"weight-gradient", ARGUMENT_CHOICE, &training.weight_gradient, "f32|int8", "numbers of the gradients to weights"},
        {"activation-checkpointing", ARGUMENT_FLAG, &training.activation_checkpointing, NULL, "keep less, compute it anew"},
    };
    arguments_result read = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    if (backend != 0 && (train || how.parity)) {
        fprintf(stderr, "benchmark: --backend goes neither with --parity, which compares all, nor with --train\n");
        return 2;
    }
    if (backend != 0) {
        int32_t *rows[] = {&how.scalar, &how.simd, &how.parallel, &how.cuda};
        for (int row = 0; row < 4; ++row)
            *rows[row] = row + 1 == backend;
    }
    how.threads = threads < INT32_MAX ? (int32_t)threads : INT32_MAX;
    if (train) {
        training.threads = how.threads;
        return breakdown(&training) != SETUN_OK;
    }
    setun_context_options_init(&where, sizeof where);
    where.threads = how.threads;
    setun_status status = setun_context_create(&where, &o.context);
    if (status == SETUN_OK && !o.json)
        status = print_header(o.context, how.level);
    if (status == SETUN_OK)
        status = setun_benchmark(&how, show, &o);
    if (status != SETUN_OK)
        fprintf(stderr, "benchmark: %s (%s)\n", setun_last_error(), setun_status_name(status));
    else if (how.parity && !o.json)
        printf("%ld comparisons, %ld of them on cuda, %ld differ; %s\n", o.compared, o.on_cuda, o.differ, setun_build_info());
    setun_context_free(o.context);
    return status != SETUN_OK || o.differ > 0;
}
