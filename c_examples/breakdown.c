#define _POSIX_C_SOURCE 200809L /* clock_gettime, getrusage */

#include "breakdown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { VOCABULARY = 65, TOKENS = 100000, MOST_OPERATIONS = 256 };

static const struct {
    const char *name;
    int64_t layers, width, heads, context, batch, steps;
} sizes[] = {{"S", 4, 128, 4, 64, 12, 200}, {"M", 6, 384, 6, 256, 64, 3}};

/* What a run is made of, and what its steps took. */
typedef struct {
    setun_context *context;
    setun_dataset *dataset;
    setun_model *model;
    setun_trainer *trainer;
    double start, first, timed; /* seconds: when the run began, when its first step ended, and when timing began */
    int64_t warm, steps;
} run;

/* What this machine can do at most, on the threads of the run, in billions a second. */
typedef struct {
    double f32, int8, copy;
} ceilings;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The first steps fill caches and measure crossovers: they do not count. */
static int32_t after_step(const setun_metrics *metrics, void *user_data)
{
    run *r = user_data;
    if (metrics->step == 1)
        r->first = now();
    if (metrics->step == r->warm) {
        setun_context_reset_statistics(r->context);
        r->timed = now();
    }
    return 1;
}

/* Ceilings come before everything else: the first operation ends the benchmark. */
static int32_t keep_ceiling(const setun_benchmark_result *result, void *user_data)
{
    ceilings *c = user_data;
    if (!result->is_ceiling)
        return 0;
    if (strcmp(result->operation, "f32 peak") == 0)
        c->f32 = result->rate;
    else if (strcmp(result->operation, "int8 peak") == 0)
        c->int8 = result->rate;
    else if (strcmp(result->operation, "copy") == 0 && result->bytes <= 64e6)
        c->copy = result->rate; /* of the largest that the last cache may hold */
    return 1;
}

static setun_status measure_ceilings(int64_t threads, ceilings *c)
{
    setun_benchmark_options how;
    setun_benchmark_options_init(&how, sizeof how);
    how.filter = "fill";
    how.scalar = 0;
    how.simd = threads == 1;
    how.parallel = threads != 1;
    how.threads = (int32_t)threads;
    return setun_benchmark(&how, keep_ceiling, c);
}

static setun_status make(run *r, const breakdown_options *o)
{
    static uint32_t tokens[TOKENS];
    setun_context_options where;
    setun_model_options model;
    setun_train_options train;
    setun_status status;
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (uint32_t)((uint64_t)i * i * 7919 % 1000003 % VOCABULARY);
    setun_context_options_init(&where, sizeof where);
    where.threads = (int32_t)o->threads;
    where.benchmark_mode = 1;
    setun_model_options_init(&model, sizeof model);
    model.vocabulary = VOCABULARY;
    model.layers = sizes[o->size].layers;
    model.width = sizes[o->size].width;
    model.heads = sizes[o->size].heads;
    model.context_length = sizes[o->size].context;
    model.quantize_weights = !o->f32;
    setun_train_options_init(&train, sizeof train);
    train.batch_size = o->batch > 0 ? o->batch : sizes[o->size].batch;
    train.max_steps = r->warm + r->steps;
    train.quantize_weights = !o->f32;
    train.quantize_gradients = SETUN_GRADIENT_QUANTIZATION_NONE;
    train.use_adaptive_lr = 0;
    train.n_clusters = 0;
    train.input_gradient = o->input_gradient;
    train.weight_gradient = o->weight_gradient;
    train.activation_checkpointing = o->activation_checkpointing;
    train.evaluation_windows = 1;
    train.progress = after_step;
    train.user_data = r;
    if ((status = setun_context_create(&where, &r->context)) != SETUN_OK ||
        (status = setun_dataset_from_tokens(tokens, TOKENS, VOCABULARY, .01, &r->dataset)) != SETUN_OK ||
        (status = setun_model_create(r->context, &model, &r->model)) != SETUN_OK)
        return status;
    return setun_trainer_create(r->model, r->dataset, NULL, &train, &r->trainer);
}

static int slowest_first(const void *a, const void *b)
{
    const setun_statistics *x = a, *y = b;
    return (x->seconds[0] < y->seconds[0]) - (x->seconds[0] > y->seconds[0]);
}

static void print_operation(const setun_statistics *s, const ceilings *c, double seconds, int64_t steps)
{
    const char *unit = s->multiplies == SETUN_MULTIPLIES_INT8 ? "GOP/s" : s->multiplies == SETUN_MULTIPLIES_F32 ? "GFLOP/s" : "GB/s";
    double ceiling = s->multiplies == SETUN_MULTIPLIES_INT8 ? c->int8 : s->multiplies == SETUN_MULTIPLIES_F32 ? c->f32 : c->copy;
    double amount = s->multiplies != SETUN_MULTIPLIES_NOTHING ? 2. * (double)s->elements[0] : (double)s->bytes[0];
    double rate = amount / s->seconds[0] / 1e9;
    printf("%-32s %9.3f ms %5.1f%% %6.1f calls  %8.1f %-7s %4.0f%%\n", s->operation, 1e3 * s->seconds[0] / (double)steps,
           100 * s->seconds[0] / seconds, (double)s->calls[0] / (double)steps, rate, unit, 100 * rate / ceiling);
}

/* Forward and backward take three products for each weight of a matrix, the head's included, and seven for the scores and outputs of
   attention, of which causality leaves half: 2 and 5. */
static double operations_a_token(const breakdown_options *o)
{
    double width = (double)sizes[o->size].width, context = (double)sizes[o->size].context;
    double layers = (double)sizes[o->size].layers;
    return 6 * (layers * 12 * width * width + VOCABULARY * width) + 7 * layers * width * context;
}

static setun_status print(const run *r, const breakdown_options *o, const ceilings *c, double seconds)
{
    static setun_statistics all[MOST_OPERATIONS];
    struct rusage usage;
    int64_t count = 0, batch = o->batch > 0 ? o->batch : sizes[o->size].batch;
    int32_t threads = 0;
    double sum = 0, tokens = (double)(r->steps * batch * sizes[o->size].context) / seconds;
    setun_status status = setun_context_threads(r->context, &threads);
    for (int64_t i = 0; i < setun_operation_count() && count < MOST_OPERATIONS && status == SETUN_OK; i++) {
        all[count].struct_size = sizeof *all;
        status = setun_context_statistics(r->context, i, &all[count]);
        sum += all[count].seconds[0];
        count += all[count].calls[0] > 0;
    }
    if (status != SETUN_OK)
        return status;
    qsort(all, (size_t)count, sizeof *all, slowest_first);
    printf("size %s, %s, batch %" PRId64 ", %d threads, %" PRId64 " steps: %.0f tokens/s, %.2f ms a step\n", sizes[o->size].name,
           o->f32 ? "f32" : "ternary", batch, (int)threads, r->steps, tokens, 1e3 * seconds / (double)r->steps);
    printf("%.1f GFLOP/s-equivalent, %.0f%% of the f32 peak, %.1f GFLOP/s; int8 peak %.1f GOP/s, copy %.1f GB/s\n",
           tokens * operations_a_token(o) / 1e9, 100 * tokens * operations_a_token(o) / 1e9 / c->f32, c->f32, c->int8, c->copy);
    getrusage(RUSAGE_SELF, &usage);
    printf("first step done %.3f s after the start, peak memory %.0f MiB\n", r->first - r->start, (double)usage.ru_maxrss / 1024);
    for (int64_t i = 0; i < count; i++)
        print_operation(&all[i], c, seconds, r->steps);
    printf("%-32s %9.3f ms %5.1f%%\n\n", "between the operations", 1e3 * (seconds - sum) / (double)r->steps, 100 * (1 - sum / seconds));
    return SETUN_OK;
}

setun_status breakdown(const breakdown_options *options)
{
    run r;
    ceilings c = {0, 0, 0};
    memset(&r, 0, sizeof r);
    r.start = now();
    r.warm = options->size == 0 ? 20 : 1;
    r.steps = options->steps > 0 ? options->steps : sizes[options->size].steps;
    setun_status status = make(&r, options);
    /* The run ends with an evaluation of one window, which is not among its steps. */
    if (status == SETUN_OK)
        status = setun_trainer_run(r.trainer, NULL);
    double seconds = now() - r.timed;
    if (status == SETUN_OK)
        status = measure_ceilings(options->threads, &c);
    if (status == SETUN_OK)
        status = print(&r, options, &c, seconds);
    if (status != SETUN_OK)
        fprintf(stderr, "benchmark: %s (%s)\n", setun_last_error(), setun_status_name(status));
    setun_trainer_free(r.trainer);
    setun_model_free(r.model);
    setun_dataset_free(r.dataset);
    setun_context_free(r.context);
    return status;
}
