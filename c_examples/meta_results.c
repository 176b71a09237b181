/* The random numbers, the threads and the results file of meta_train. */
#include "meta.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014). */
static uint64_t next(meta_random *random)
{
    uint64_t z = random->state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

meta_random meta_stream(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    meta_random random = {seed};
    const uint64_t names[] = {a, b, c};
    for (int i = 0; i < 3; i++)
        random.state = next(&random) ^ names[i];
    random.state = next(&random);
    return random;
}

double meta_uniform(meta_random *random)
{
    return (double)(next(random) >> 11) / 9007199254740992.;
}

double meta_normal(meta_random *random)
{
    double u = 1 - meta_uniform(random), angle = 6.283185307179586 * meta_uniform(random);
    return sqrt(-2 * log(u)) * cos(angle);
}

double meta_log_uniform(meta_random *random, double from, double to)
{
    return from * pow(to / from, meta_uniform(random));
}

uint64_t meta_name(const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    uint64_t name = 0xCBF29CE484222325;
    for (size_t i = 0; i < count; i++)
        name = (name ^ byte[i]) * 0x100000001B3;
    return name;
}

typedef struct {
    pthread_mutex_t lock;
    int64_t next, count;
    int (*work)(void *data, int64_t i);
    void *data;
    int failed;
} queue;

static void *serve(void *argument)
{
    queue *q = argument;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        int64_t i = q->failed ? q->count : q->next++;
        pthread_mutex_unlock(&q->lock);
        if (i >= q->count)
            return NULL;
        if (!q->work(q->data, i)) {
            pthread_mutex_lock(&q->lock);
            q->failed = 1;
            pthread_mutex_unlock(&q->lock);
        }
    }
}

int meta_parallel(int64_t threads, int64_t count, int (*work)(void *data, int64_t i), void *data)
{
    pthread_t others[64];
    queue q = {PTHREAD_MUTEX_INITIALIZER, 0, count, work, data, 0};
    int started = 0;
    while (started < 64 && started + 1 < threads && pthread_create(&others[started], NULL, serve, &q) == 0)
        started++;
    serve(&q); /* this thread works too, and alone where there is no other */
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    return !q.failed;
}

/* A line of 399 numbers has up to 10 kB. */
enum { LINE = 1 << 15 };

/* Calls use(data, line) for each whole line of the file that holds `mark`: a line that a killed program left has no end. */
static void each_line(const char *path, const char *mark, void (*use)(void *data, const char *line), void *data)
{
    char *line = malloc(LINE);
    FILE *file = line == NULL ? NULL : fopen(path, "r");
    while (file != NULL && fgets(line, LINE, file) != NULL)
        if (strstr(line, mark) != NULL && strstr(line, "}\n") != NULL)
            use(data, line);
    if (file != NULL)
        fclose(file);
    free(line);
}

/* Opens the file for one more line, after a line of its own for what has no end. */
static FILE *open_end(const char *path)
{
    FILE *file = fopen(path, "a+");
    if (file == NULL) {
        perror(path);
        return NULL;
    }
    if (fseek(file, -1, SEEK_END) == 0 && getc(file) != '\n') {
        fseek(file, 0, SEEK_END);
        putc('\n', file);
    }
    fseek(file, 0, SEEK_END);
    return file;
}

static int close_end(FILE *file, const char *path)
{
    int bad = ferror(file);
    if (fclose(file) == 0 && !bad)
        return 1;
    perror(path);
    return 0;
}

static double number(const char *line, const char *name)
{
    char mark[32];
    snprintf(mark, sizeof mark, "\"%s\":", name);
    const char *at = strstr(line, mark);
    return at == NULL ? NAN : strtod(at + strlen(mark), NULL);
}

static int numbers(const char *line, const char *name, double *values)
{
    char mark[32], *end;
    snprintf(mark, sizeof mark, "\"%s\":[", name);
    const char *at = strstr(line, mark);
    at = at == NULL ? "" : at + strlen(mark);
    for (int i = 0; i < META_WEIGHTS; i++, at = end + 1) {
        values[i] = strtod(at, &end);
        if (end == at || *end != (i + 1 < META_WEIGHTS ? ',' : ']') || !isfinite(values[i]))
            return 0;
    }
    return 1;
}

static void take_progress(void *data, const char *line)
{
    meta_progress *progress = data, found;
    double generation = number(line, "generation");
    if (generation > (double)progress->generation && numbers(line, "weights", found.weights) && numbers(line, "m", found.m) &&
        numbers(line, "v", found.v)) {
        found.generation = (int64_t)generation;
        *progress = found;
    }
}

static void print_key(char *mark, size_t size, const char *key, int64_t seed)
{
    snprintf(mark, size, "\"key\":\"%s\",\"seed\":%lld,", key, (long long)seed);
}

void meta_read_progress(const char *path, const char *key, int64_t seed, meta_progress *progress)
{
    char mark[512];
    print_key(mark, sizeof mark, key, seed);
    each_line(path, mark, take_progress, progress);
}

static void print_numbers(FILE *file, const char *name, const double *values)
{
    fprintf(file, ",\"%s\":[", name);
    for (int i = 0; i < META_WEIGHTS; i++)
        fprintf(file, "%s%.17g", i > 0 ? "," : "", values[i]);
    putc(']', file);
}

int meta_append_progress(const char *path, const char *key, int64_t seed, const meta_progress *progress, double change,
                         double loss)
{
    char mark[512];
    FILE *file = open_end(path);
    if (file == NULL)
        return 0;
    print_key(mark, sizeof mark, key, seed);
    fprintf(file, "{%s\"generation\":%lld,\"change\":%.9g,\"loss\":%.9g", mark, (long long)progress->generation, change, loss);
    print_numbers(file, "weights", progress->weights);
    print_numbers(file, "m", progress->m);
    print_numbers(file, "v", progress->v);
    fputs("}\n", file);
    return close_end(file, path);
}

typedef struct {
    meta_outcome outcome;
    int found;
} taken;

static void take_run(void *data, const char *line)
{
    taken *t = data;
    double last = strstr(line, "\"last\":null") != NULL ? INFINITY : number(line, "last");
    meta_outcome outcome = {number(line, "first"), last, number(line, "factor")};
    if (!isnan(outcome.first + outcome.factor) && !isnan(last)) {
        t->outcome = outcome;
        t->found = 1;
    }
}

int meta_read_run(const char *path, const char *key, meta_outcome *outcome)
{
    char mark[512];
    taken t = {{0, 0, 0}, 0};
    snprintf(mark, sizeof mark, "\"run\":\"%s\",", key);
    each_line(path, mark, take_run, &t);
    if (t.found)
        *outcome = t.outcome;
    return t.found;
}

int meta_append_run(const char *path, const char *key, const meta_outcome *outcome)
{
    char last[32] = "null"; /* JSON has no infinity */
    FILE *file = open_end(path);
    if (file == NULL)
        return 0;
    if (isfinite(outcome->last))
        snprintf(last, sizeof last, "%.17g", outcome->last);
    fprintf(file, "{\"run\":\"%s\",\"first\":%.17g,\"last\":%s,\"factor\":%.17g}\n", key, outcome->first, last,
            outcome->factor);
    return close_end(file, path);
}
