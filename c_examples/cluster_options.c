#include "cluster_options.h"

#include <stdio.h>
#include <string.h>

static const char about[] =
    "cluster: sorts points into clusters by exact k-means.\n\n"
    "  cluster --in points.csv -k 5 --labels labels.csv --svg picture.svg\n"
    "  cluster --in points.f32 --width 64 -k 100 --capacity balanced --centroids centroids.npy\n"
    "  cluster --in corpus.txt -k 10 --examples 5\n\n"
    "Points are the rows of a .npy, .csv or .tsv file, or of one of 32-bit floats (--width), or windows of a text (.txt,\n"
    "--text) or its lines, as directions of hashed TF-IDF vectors. Without --in, the program's own: eight clouds. Ctrl-C\n"
    "stops with what there is. Exit status: 0 done, 1 failed, 2 not understood, 3 stopped. Defaults in brackets.";

static int consistent(const cluster_options *o)
{
    if (o->threads > 4096 || o->examples > 1000000 || o->clusters > INT32_MAX) {
        fprintf(stderr, "--threads is at most 4096, --examples at most 1000000, --clusters at most 2147483647\n");
        return 0;
    }
    if (o->source.dimensions < 1 || o->source.dimensions > 1 << 20 || o->source.window < 1) {
        fprintf(stderr, "--dimensions is 1 to 1048576, and --window at least 1\n");
        return 0;
    }
    return 1;
}

/* Reads "balanced", or a number; NULL is no capacity. */
static int read_capacity(cluster_options *o, const char *text)
{
    o->balanced = text != NULL && strcmp(text, "balanced") == 0;
    if (text == NULL || o->balanced || arguments_count(text, &o->how.capacity))
        return 1;
    fprintf(stderr, "--capacity takes a whole number from 0 on, or balanced, not '%s'\n", text);
    return 0;
}

static void distribute(cluster_options *o)
{
    static const int32_t starts[] = {SETUN_KMEANS_START_PLUS_PLUS, SETUN_KMEANS_START_SCALABLE, SETUN_KMEANS_START_RANDOM};
    o->how.start = o->given != NULL ? SETUN_KMEANS_START_GIVEN : starts[o->start];
    o->how.seed = (uint64_t)o->seed;
    o->source.seed = o->seed;
    if (o->given != NULL)
        o->how.n_init = 1;
}

arguments_result cluster_options_read(cluster_options *o, int argc, char **argv)
{
    const char *capacity = NULL;
    setun_kmeans_options_init(&o->how, sizeof o->how);
    o->clusters = 8, o->examples = 3, o->how.n_init = 4, o->source.window = 2048, o->source.dimensions = 1024;
    const argument table[] = {
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Points"},
        {"in", ARGUMENT_TEXT, &o->source.path, NULL, "their file; - is standard input, with a --format"},
        {"format", ARGUMENT_CHOICE, &o->source.format, "auto|npy|csv|f32|text", "of --in; auto: by its name"},
        {"columns", ARGUMENT_TEXT, &o->source.columns, NULL, "which count, such as 1-4,7; default: all"},
        {"width", ARGUMENT_COUNT, &o->source.width, NULL, "numbers of a row in a file of 32-bit floats"},
        {"weights", ARGUMENT_TEXT, &o->weights, NULL, "file of a weight for each point, .npy or .csv"},
        {"text", ARGUMENT_FLAG, &o->source.text, NULL, "--in is a text"},
        {"lines", ARGUMENT_FLAG, &o->source.lines, NULL, "its lines are points, those that are not empty"},
        {"window", ARGUMENT_COUNT, &o->source.window, NULL, "else bytes of it that make a point"},
        {"dimensions", ARGUMENT_COUNT, &o->source.dimensions, NULL, "of the vectors of a text"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Clusters"},
        {"clusters", ARGUMENT_COUNT, &o->clusters, NULL, "how many"},
        {"k", ARGUMENT_COUNT, &o->clusters, NULL, "the same"},
        {"start", ARGUMENT_CHOICE, &o->start, "plus-plus|scalable|random", "where the first centroids come from"},
        {"given", ARGUMENT_TEXT, &o->given, NULL, "file of the first centroids, .npy or .csv; --clusters is their number"},
        {"candidates", ARGUMENT_COUNT, &o->how.candidates, NULL, "points that plus-plus chooses among; 0 = 2 + ln of --clusters"},
        {"n-init", ARGUMENT_COUNT, &o->how.n_init, NULL, "runs from different starts, of which the best is kept"},
        {"max-iterations", ARGUMENT_COUNT, &o->how.max_iterations, NULL, "of one run"},
        {"tolerance", ARGUMENT_REAL, &o->how.tolerance, NULL, "part of the inertia that is not worth another iteration"},
        {"spherical", ARGUMENT_FLAG, &o->how.spherical, NULL, "points are directions, as always for texts"},
        {"capacity", ARGUMENT_TEXT, &capacity, NULL, "points of a cluster at most, or balanced; default: any number"},
        {"seed", ARGUMENT_COUNT, &o->seed, NULL, "of the starts, and of the vectors of a text"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Results and where they are found"},
        {"labels", ARGUMENT_TEXT, &o->labels, NULL, "file for the cluster of each point, .npy or text"},
        {"centroids", ARGUMENT_TEXT, &o->centroids, NULL, "file for the centroids, .npy or .csv"},
        {"svg", ARGUMENT_TEXT, &o->svg, NULL, "file for a picture"},
        {"examples", ARGUMENT_COUNT, &o->examples, NULL, "parts of a text that are shown of each cluster"},
        {"progress", ARGUMENT_FLAG, &o->progress, NULL, "tell each iteration on stderr"},
        {"backend", ARGUMENT_CHOICE, &o->backend, "auto|scalar|simd|parallel|cuda", "what computes"},
        {"threads", ARGUMENT_COUNT, &o->threads, NULL, "of the parallel backend; 0 = as many as there are"},
    };
    arguments_result result = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (result == ARGUMENTS_OK && (!consistent(o) || !read_capacity(o, capacity)))
        result = ARGUMENTS_WRONG;
    distribute(o);
    return result;
}
