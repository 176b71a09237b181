/* Clusters points by exact k-means: numbers of a .npy or .csv file, or of a file of 32-bit floats, or parts of a text.
   make -C c_examples all, and c_examples/build/cluster --help */
#define _POSIX_C_SOURCE 200809L /* sigaction */

#include "arguments.h"
#include "picture.h"
#include "points.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "cluster: sorts points into clusters by exact k-means.\n\n"
    "  cluster --in points.csv --clusters 5 --labels labels.csv --svg picture.svg\n\n"
    "Points are the rows of a .npy file, of a .csv or .tsv file, or of a file of 32-bit floats with --columns; or the\n"
    "windows of a .txt file, as directions of hashed TF-IDF vectors. Without --in, the program's own: eight clouds.\n"
    "Ctrl-C ends it with what there is. Defaults in brackets.";

typedef struct {
    points_source source;
    int64_t clusters, n_init, iterations, capacity, candidates, seed, threads, examples;
    int32_t start, spherical, balanced, quiet, backend;
    double tolerance;
    const char *labels, *centroids, *svg;
} options;

typedef struct {
    points points;
    int32_t *labels;
    int64_t *sizes;
    float *centroids, *distances;
    setun_kmeans *kmeans;
    setun_context *context;
    setun_kmeans_report report;
} run;

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static int32_t told(const setun_kmeans_report *report, void *user_data)
{
    const options *o = user_data;
    if (!o->quiet)
        fprintf(stderr, "run %" PRId64 ", iteration %" PRId64 ": inertia %.6g, %" PRId64 " points moved\n", report->run,
                report->iterations, report->inertia, report->moved);
    return !stopped;
}

static int fit(run *r, const options *o)
{
    static const int32_t starts[] = {SETUN_KMEANS_START_PLUS_PLUS, SETUN_KMEANS_START_SCALABLE, SETUN_KMEANS_START_RANDOM};
    const points *p = &r->points;
    setun_context_options where;
    setun_kmeans_options how;
    setun_context_options_init(&where, sizeof where);
    where.backend = o->backend, where.threads = o->threads;
    setun_kmeans_options_init(&how, sizeof how);
    how.start = starts[o->start];
    how.n_init = o->n_init, how.max_iterations = o->iterations, how.tolerance = o->tolerance;
    how.candidates = o->candidates, how.seed = (uint64_t)o->seed;
    how.spherical = o->spherical || p->text != NULL;
    how.capacity = o->balanced && o->clusters > 0 ? (p->n + o->clusters - 1) / o->clusters : o->capacity;
    how.progress = told, how.user_data = (void *)o;
    if (points_failed(setun_context_create(&where, &r->context), "the context"))
        return -1;
    how.context = r->context;
    if (points_failed(setun_kmeans_create(o->clusters, &how, &r->kmeans), "the clusters"))
        return -1;
    r->labels = calloc((size_t)p->n, sizeof *r->labels);
    r->distances = calloc((size_t)p->n, sizeof *r->distances);
    if (r->labels == NULL || r->distances == NULL)
        return fprintf(stderr, "there is no memory for the labels\n"), -1;
    r->report.struct_size = sizeof r->report;
    if (points_failed(setun_kmeans_fit(r->kmeans, p->x, p->n, p->d, NULL, r->labels), "k-means") ||
        points_failed(setun_kmeans_last_report(r->kmeans, &r->report), "k-means") ||
        points_failed(setun_kmeans_assign(r->kmeans, p->x, p->n, p->d, NULL, r->distances), "k-means"))
        return -1;
    /* k is at most n here. */
    r->sizes = calloc((size_t)o->clusters, sizeof *r->sizes);
    r->centroids = calloc((size_t)o->clusters * (size_t)p->d, sizeof *r->centroids);
    if (r->sizes == NULL || r->centroids == NULL)
        return fprintf(stderr, "there is no memory for the centroids\n"), -1;
    for (int64_t i = 0; i < p->n; i++)
        r->sizes[r->labels[i]]++;
    return points_failed(setun_kmeans_centroids(r->kmeans, r->centroids, o->clusters * p->d), "k-means");
}

/* The part of the text that is point i, one line of it. */
static void print_part(const points *p, int64_t i)
{
    printf("   ");
    for (int64_t at = p->begins[i], width = 0; at < p->ends[i] && width < 96; at++, width++) {
        unsigned char c = (unsigned char)p->text[at];
        putchar(c >= 32 && c != 127 ? c : ' ');
    }
    printf("\n");
}

/* The parts that are nearest to each centroid, so many of each. */
static void print_examples(run *r, const options *o)
{
    for (int64_t c = 0; c < o->clusters; c++) {
        printf("cluster %" PRId64 ": %" PRId64 " parts\n", c, r->sizes[c]);
        for (int64_t shown = 0; shown < o->examples && shown < r->sizes[c]; shown++) {
            int64_t best = -1;
            for (int64_t i = 0; i < r->points.n; i++)
                if (r->labels[i] == c && r->distances[i] >= 0 && (best < 0 || r->distances[i] < r->distances[best]))
                    best = i;
            print_part(&r->points, best);
            r->distances[best] = -1; /* it was shown */
        }
    }
}

static int results(run *r, const options *o)
{
    const points *p = &r->points;
    const setun_kmeans_report *report = &r->report;
    const char *how = report->converged ? ", a fixed point" : report->stopped ? ", stopped" : "";
    printf("%" PRId64 " points of %" PRId64 " numbers, %" PRId64 " clusters: inertia %.6g after %" PRId64
           " iterations of run %" PRId64 "%s\nsizes",
           p->n, p->d, o->clusters, report->inertia, report->iterations, report->run, how);
    for (int64_t c = 0; c < o->clusters; c++)
        printf(" %" PRId64, r->sizes[c]);
    printf("\n");
    if (p->text != NULL && o->examples > 0)
        print_examples(r, o);
    if ((o->labels != NULL && points_write(o->labels, r->labels, NULL, p->n, 1) != 0) ||
        (o->centroids != NULL && points_write(o->centroids, NULL, r->centroids, o->clusters, p->d) != 0))
        return -1;
    return o->svg != NULL ? picture_write(o->svg, p->x, p->n, p->d, r->labels, r->centroids, o->clusters, r->sizes) : 0;
}

int main(int argc, char **argv)
{
    options o = {0};
    o.clusters = 8, o.n_init = 4, o.iterations = 300, o.examples = 3, o.source.window = 2048, o.source.dimensions = 1024;
    const argument table[] = {
        {"in", ARGUMENT_TEXT, &o.source.path, NULL, "the points"},
        {"format", ARGUMENT_CHOICE, &o.source.format, "auto|npy|csv|f32|text|lines", "of --in; lines: each line of a text is a point"},
        {"columns", ARGUMENT_COUNT, &o.source.columns, NULL, "of a file of 32-bit floats"},
        {"window", ARGUMENT_COUNT, &o.source.window, NULL, "bytes of text that make a point"},
        {"dimensions", ARGUMENT_COUNT, &o.source.dimensions, NULL, "of the vectors of a text"},
        {"clusters", ARGUMENT_COUNT, &o.clusters, NULL, "how many"},
        {"start", ARGUMENT_CHOICE, &o.start, "plus-plus|scalable|random", "where the first centroids come from"},
        {"candidates", ARGUMENT_COUNT, &o.candidates, NULL, "points that plus-plus chooses among; 0 = 2 + ln of --clusters"},
        {"runs", ARGUMENT_COUNT, &o.n_init, NULL, "from different starts, of which the best is kept"},
        {"iterations", ARGUMENT_COUNT, &o.iterations, NULL, "of one run at most"},
        {"tolerance", ARGUMENT_REAL, &o.tolerance, NULL, "part of the inertia that is not worth another iteration"},
        {"spherical", ARGUMENT_FLAG, &o.spherical, NULL, "directions, as always for texts"},
        {"capacity", ARGUMENT_COUNT, &o.capacity, NULL, "points of a cluster at most; 0 = any number"},
        {"balanced", ARGUMENT_FLAG, &o.balanced, NULL, "clusters of one size"},
        {"seed", ARGUMENT_COUNT, &o.seed, NULL, "of the starts, and of the vectors of a text"},
        {"backend", ARGUMENT_CHOICE, &o.backend, "auto|scalar|simd|parallel|cuda", "what computes"},
        {"threads", ARGUMENT_COUNT, &o.threads, NULL, "0 = as many as there are"},
        {"labels", ARGUMENT_TEXT, &o.labels, NULL, "file for the cluster of each point, .npy or text"},
        {"centroids", ARGUMENT_TEXT, &o.centroids, NULL, "file for the centroids, .npy or .csv"},
        {"svg", ARGUMENT_TEXT, &o.svg, NULL, "file for a picture"},
        {"examples", ARGUMENT_COUNT, &o.examples, NULL, "parts of a text that are shown of each cluster"},
        {"quiet", ARGUMENT_FLAG, &o.quiet, NULL, "no word on the iterations"},
    };
    arguments_result read = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_WRONG ? 2 : 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    run r;
    memset(&r, 0, sizeof r);
    o.source.seed = o.seed;
    int bad = points_read(&r.points, &o.source) || fit(&r, &o) || results(&r, &o);
    setun_kmeans_free(r.kmeans);
    setun_context_free(r.context);
    points_free(&r.points);
    free(r.labels), free(r.sizes), free(r.centroids), free(r.distances);
    return bad != 0;
}
