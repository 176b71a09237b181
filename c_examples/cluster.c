/* Clusters points by exact k-means: cc -std=c99 -O2 -I../include cluster.c cluster_options.c points.c table.c output.c
   picture.c axis.c topics.c signals.c arguments.c -L../target/release -lsetun -lm -lpthread
   -Wl,-rpath,../target/release -o cluster */
#define _POSIX_C_SOURCE 200809L /* isatty */

#include "cluster_options.h"
#include "output.h"
#include "picture.h"
#include "signals.h"
#include "topics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    cluster_options options;
    points points, weights, given;
    int32_t *labels;
    int64_t *sizes;
    float *centroids;
    setun_cancel *cancel;
    setun_context *context;
    setun_kmeans *kmeans;
    setun_kmeans_report report;
    int terminal; /* whether stderr is one: then a line of progress is written over the last */
} run;

/* Before the work begins: what is read, and whether results can be written. */
static int read_files(run *r)
{
    cluster_options *o = &r->options;
    points_source weights = {0}, given = {0};
    weights.path = o->weights, weights.format = o->weights != NULL && output_ends(o->weights, ".npy") ? FORMAT_NPY : FORMAT_CSV;
    given.path = o->given, given.format = o->given != NULL && output_ends(o->given, ".npy") ? FORMAT_NPY : FORMAT_CSV;
    if (points_read(&r->points, &o->source) != 0 || (o->weights != NULL && points_read(&r->weights, &weights) != 0) ||
        (o->given != NULL && points_read(&r->given, &given) != 0))
        return -1;
    if (o->weights != NULL && (r->weights.n != r->points.n || r->weights.d != 1)) {
        fprintf(stderr, "%s: %" PRId64 " rows of %" PRId64 " numbers are not one weight for each of %" PRId64 " points\n",
                o->weights, r->weights.n, r->weights.d, r->points.n);
        return -1;
    }
    if (o->given != NULL)
        o->clusters = r->given.n;
    return output_possible(o->labels) != 0 || output_possible(o->centroids) != 0 || output_possible(o->svg) != 0 ? -1 : 0;
}

/* A setun_kmeans_callback: the first Ctrl-C lets it stop after an iteration; after the second one the token stops it. */
static int32_t told(const setun_kmeans_report *report, void *user_data)
{
    const run *r = user_data;
    if (r->options.progress)
        fprintf(stderr, "%srun %" PRId64 ", iteration %" PRId64 ": inertia %.6g, %" PRId64 " points moved%s",
                r->terminal ? "\r" : "", report->run, report->iterations, report->inertia, report->moved,
                r->terminal ? "\033[K" : "\n");
    return signals_heard() != 1;
}

static int prepare(run *r)
{
    cluster_options *o = &r->options;
    const points *p = &r->points;
    if (p->text != NULL)
        o->how.spherical = 1;
    if (o->balanced && o->clusters > 0)
        o->how.capacity = (p->n - 1) / o->clusters + 1;
    o->how.progress = told, o->how.user_data = r;
    o->how.cancel = r->cancel, o->how.context = r->context;
    r->labels = calloc((size_t)p->n, sizeof *r->labels);
    if (r->labels == NULL)
        return fprintf(stderr, "there is no memory for the labels\n"), -1;
    if (check(setun_kmeans_create(o->clusters, &o->how, &r->kmeans), "clusters") != 0)
        return -1;
    return o->given == NULL ? 0 : check(setun_kmeans_set_centroids(r->kmeans, r->given.x, r->given.d), o->given);
}

static int find_sizes(run *r)
{
    int64_t k = r->options.clusters, d = r->points.d; /* k is at most n here, and n x d fits in memory */
    r->sizes = calloc((size_t)k, sizeof *r->sizes);
    r->centroids = calloc((size_t)k * (size_t)d, sizeof *r->centroids);
    if (r->sizes == NULL || r->centroids == NULL)
        return fprintf(stderr, "there is no memory for the centroids\n"), -1;
    for (int64_t i = 0; i < r->points.n; i++)
        r->sizes[r->labels[i]]++;
    r->report.struct_size = sizeof r->report;
    return check(setun_kmeans_centroids(r->kmeans, r->centroids, k * d), "centroids") != 0
               ? -1
               : check(setun_kmeans_last_report(r->kmeans, &r->report), "report");
}

static int results(run *r)
{
    const cluster_options *o = &r->options;
    const setun_kmeans_report *report = &r->report;
    points *p = &r->points;
    picture shown = {p->x, p->n, p->d, r->labels, r->centroids, o->clusters, r->sizes};
    printf("%" PRId64 " points of %" PRId64 " numbers, %" PRId64 " clusters: inertia %.6g after %" PRId64
           " iteration%s of run %" PRId64 "%s\nsizes",
           p->n, p->d, o->clusters, report->inertia, report->iterations, report->iterations == 1 ? "" : "s", report->run,
           report->stopped ? ", stopped" : report->converged ? ", converged" : ", not converged");
    for (int64_t c = 0; c < o->clusters; c++)
        printf(" %" PRId64, r->sizes[c]);
    printf("\n");
    if ((p->text != NULL && o->examples > 0 &&
         topics_print(p, r->labels, r->centroids, r->sizes, o->clusters, o->examples) != 0) ||
        (o->labels != NULL && output_integers(o->labels, r->labels, p->n, 1) != 0) ||
        (o->centroids != NULL && output_floats(o->centroids, r->centroids, o->clusters, p->d) != 0))
        return -1;
    if (o->how.spherical)
        points_scale(p); /* beside centroids of length 1 */
    return o->svg != NULL ? picture_write(&shown, o->svg) : 0;
}

/* The exit status of the program, as its help says. */
static int cluster(run *r)
{
    static const char *const stopping[] = {"stopping after this iteration; once more to stop without results", "stopping"};
    const points *p = &r->points;
    setun_context_options where;
    setun_context_options_init(&where, sizeof where);
    where.backend = r->options.backend, where.threads = (int32_t)r->options.threads;
    if (read_files(r) != 0 || check(setun_cancel_create(&r->cancel), "cancel") != 0 ||
        signals_watch(r->cancel, stopping, 2) != 0 || check(setun_context_create(&where, &r->context), "context") != 0 ||
        prepare(r) != 0)
        return 1;
    const char *what = "vectors";
    setun_status status =
        p->text != NULL ? points_vectors(&r->points, &r->options.source, r->context, r->cancel) : SETUN_OK;
    if (status == SETUN_OK)
        what = "k-means", status = setun_kmeans_fit(r->kmeans, p->x, p->n, p->d, r->weights.x, r->labels);
    signals_release();
    if (r->terminal && r->options.progress)
        fputc('\n', stderr);
    if (status == SETUN_ERR_CANCELLED)
        return printf("stopped: nothing was written\n"), 3;
    if (check(status, what) != 0 || find_sizes(r) != 0 || results(r) != 0)
        return 1;
    return r->report.stopped ? 3 : 0;
}

int main(int argc, char **argv)
{
    run r;
    memset(&r, 0, sizeof r);
    arguments_result read = cluster_options_read(&r.options, argc, argv);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    r.terminal = isatty(fileno(stderr));
    int result = cluster(&r);
    setun_kmeans_free(r.kmeans);
    setun_context_free(r.context);
    setun_cancel_free(r.cancel);
    points_free(&r.points), points_free(&r.weights), points_free(&r.given);
    free(r.labels), free(r.sizes), free(r.centroids);
    return result;
}
