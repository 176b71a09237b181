/* The gate that a trained network has to pass: widths and horizons that it was not trained for, every run in the table. */
#include "meta.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { RATES = 3, WIDTHS = 2 };

typedef struct {
    meta_task task;
    meta_outcome alone, with;
} contest;

typedef struct {
    const meta_gate *gate;
    const double *weights;
    const setun_context *context;
    contest *contests;
    pthread_mutex_t file;
    uint64_t name; /* of the weights */
} evaluation;

/* One run, or what the file has of it. */
static int run(evaluation *e, const meta_task *task, const double *weights, meta_outcome *outcome)
{
    char key[160];
    const char *path = e->gate->results;
    snprintf(key, sizeof key, "%016llx f%d w%lld t%lld r%.6g seed %llu text %llx",
             (unsigned long long)(weights == NULL ? 0 : e->name), (int)task->family, (long long)task->width,
             (long long)task->steps, task->rate, (unsigned long long)task->seed,
             (unsigned long long)(task->family == META_CHARACTERS ? meta_text_name() : 0));
    pthread_mutex_lock(&e->file);
    int there = path != NULL && meta_read_run(path, key, outcome);
    pthread_mutex_unlock(&e->file);
    if (there)
        return 1;
    if (!meta_run(task, weights, e->context, outcome))
        return 0;
    pthread_mutex_lock(&e->file);
    int good = path == NULL || meta_append_run(path, key, outcome);
    pthread_mutex_unlock(&e->file);
    return good;
}

static int compete(void *data, int64_t i)
{
    evaluation *e = data;
    contest *c = &e->contests[i];
    return run(e, &c->task, NULL, &c->alone) && run(e, &c->task, e->weights, &c->with);
}

/* Below 0: the network is better; a run that broke is as bad as its beginning. */
static double difference(const contest *c)
{
    double alone = isfinite(c->alone.last) ? c->alone.last : c->alone.first;
    double with = isfinite(c->with.last) ? c->with.last : c->with.first;
    return with / alone - 1;
}

static void print(const contest *contests, int64_t count)
{
    static const char *const families[META_FAMILIES] = {"teacher", "characters"};
    double sum = 0, squares = 0, least = INFINITY, most = -INFINITY;
    int64_t better = 0;
    printf("family      width  steps     rate  seed   schedule    network  difference  factor\n");
    for (int64_t i = 0; i < count; i++) {
        const contest *c = &contests[i];
        double d = difference(c);
        printf("%-10s  %5lld  %5lld  %7.1e  %4llu  %9.5f  %9.5f  %+9.2f%%  %6.3f\n", families[c->task.family],
               (long long)c->task.width, (long long)c->task.steps, c->task.rate, (unsigned long long)c->task.seed,
               c->alone.last, c->with.last, 100 * d, c->with.factor);
        sum += d, squares += d * d, better += d < 0;
        least = d < least ? d : least, most = d > most ? d : most;
    }
    double mean = sum / (double)count, n = (double)(count > 1 ? count : 2);
    double error = sqrt(fmax(0, squares / n - mean * mean) / (n - 1));
    printf("%lld runs: the network is better in %lld; difference %+.2f%% in the mean (standard error %.2f), %+.2f%% to "
           "%+.2f%%\n",
           (long long)count, (long long)better, 100 * mean, 100 * error, 100 * least, 100 * most);
}

int meta_evaluate(const meta_gate *gate, const double *weights, const setun_context *context)
{
    int64_t count = META_FAMILIES * WIDTHS * RATES * gate->seeds;
    evaluation e = {gate, weights, context, NULL, PTHREAD_MUTEX_INITIALIZER, meta_name(weights, META_WEIGHTS * sizeof *weights)};
    if (gate->seeds > 0 && gate->seeds < 1000000)
        e.contests = calloc((size_t)count, sizeof *e.contests);
    if (e.contests == NULL) {
        fprintf(stderr, "%lld seeds: none, or more than memory holds\n", (long long)gate->seeds);
        return 0;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t part = i / gate->seeds;
        double share = (double)(part % RATES) / (RATES - 1);
        meta_task task = {(int32_t)(part / RATES / WIDTHS), gate->widths[part / RATES % WIDTHS], gate->steps, 0, 0};
        task.rate = gate->lowest_rate * pow(gate->highest_rate / gate->lowest_rate, share);
        /* Training draws its seeds from 2^63 on: these are none of them. */
        task.seed = (uint64_t)(i % gate->seeds);
        e.contests[i].task = task;
    }
    int good = meta_parallel(gate->threads, count, compete, &e);
    if (good)
        print(e.contests, count);
    free(e.contests);
    return good;
}
