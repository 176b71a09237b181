/* What route keeps: names of files, numbers that are the same whenever they are asked for, and the file of results. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, stat */

#include "route.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { LINE = 4096 };

int check(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s (%s)\n", what, setun_last_error(), setun_status_name(status));
    return -1;
}

int route_path(const route_options *o, char path[ROUTE_PATH], const char *name, int64_t index, const char *end)
{
    int used = index < 0 ? snprintf(path, ROUTE_PATH, "%s/%s.%s", o->out, name, end)
                         : snprintf(path, ROUTE_PATH, "%s/%s-%" PRId64 ".%s", o->out, name, index, end);
    if (used > 0 && used < ROUTE_PATH)
        return 0;
    fprintf(stderr, "the name of the folder %s is too long\n", o->out);
    return -1;
}

int route_exists(const char *path)
{
    struct stat there;
    return stat(path, &there) == 0;
}

double route_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Steele et al., "Fast splittable pseudorandom number generators", 2014. */
static uint64_t scramble(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t route_random(int64_t seed, uint64_t a, uint64_t b)
{
    return scramble(scramble(scramble((uint64_t)seed) ^ a) ^ b);
}

double route_number(const char *line, const char *name)
{
    char mark[64], *end = NULL;
    snprintf(mark, sizeof mark, "\"%s\":", name);
    const char *at = strstr(line, mark);
    double number = at == NULL ? NAN : strtod(at + strlen(mark), &end);
    return end == NULL || end == at + strlen(mark) ? NAN : number;
}

static int results_path(const route_options *o, char path[ROUTE_PATH])
{
    if (o->results == NULL)
        return route_path(o, path, "results", -1, "jsonl");
    if (snprintf(path, ROUTE_PATH, "%s", o->results) < ROUTE_PATH)
        return 0;
    fprintf(stderr, "the name of the file %s is too long\n", o->results);
    return -1;
}

/* How a line begins: with all that its loss depends on. The sharpness weighs the two nearest only. */
static void begin(const route_options *o, const char *row, char mark[LINE])
{
    char sharpness[32] = "";
    if (strcmp(row, ROUTE_WEIGHED) == 0)
        snprintf(sharpness, sizeof sharpness, " sharpness %g", o->sharpness);
    snprintf(mark, LINE, "{\"key\":\"%s windows %" PRId64 "%s\",\"seed\":%" PRId64 ",\"row\":\"%s\",", o->key, o->eval_windows,
             sharpness, o->seed, row);
}

int route_find(const route_options *o, const char *row, route_result *result)
{
    char path[ROUTE_PATH], mark[LINE], line[LINE];
    int found = 0;
    begin(o, row, mark);
    FILE *file = results_path(o, path) == 0 ? fopen(path, "r") : NULL;
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        /* A line that a killed program left has no end. */
        if (strncmp(line, mark, strlen(mark)) != 0 || strstr(line, "}\n") == NULL)
            continue;
        result->loss = route_number(line, "loss"), result->predicted = route_number(line, "predicted");
        result->router_seconds = route_number(line, "router_seconds");
        result->cost.tokens = route_number(line, "tokens"), result->cost.longest = route_number(line, "longest");
        result->cost.core_seconds = route_number(line, "core_seconds");
        found = !isnan(result->loss + result->predicted + result->router_seconds + result->cost.tokens +
                       result->cost.longest + result->cost.core_seconds);
    }
    if (file != NULL)
        fclose(file);
    return found;
}

int route_append(const route_options *o, const char *row, const route_result *result)
{
    char path[ROUTE_PATH], mark[LINE];
    if (results_path(o, path) != 0)
        return -1;
    FILE *file = fopen(path, "a+");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    int half = fseek(file, -1, SEEK_END) == 0 && getc(file) != '\n';
    fseek(file, 0, SEEK_END);
    begin(o, row, mark);
    fprintf(file, "%s%s\"loss\":%.17g,\"predicted\":%.17g,\"tokens\":%.17g,\"core_seconds\":%.17g,\"longest\":%.17g,"
                  "\"router_seconds\":%.17g}\n", half ? "\n" : "", mark, result->loss, result->predicted, result->cost.tokens,
            result->cost.core_seconds, result->cost.longest, result->router_seconds);
    int bad = ferror(file);
    if (fclose(file) == 0 && !bad)
        return 0;
    perror(path);
    return -1;
}
