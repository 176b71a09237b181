/* What the command line of cluster can say. */
#ifndef CLUSTER_OPTIONS_H
#define CLUSTER_OPTIONS_H

#include "arguments.h"
#include "points.h"

#include <setun.h>

typedef struct {
    points_source source;
    setun_kmeans_options how; /* the fields that a number says are filled in directly */
    const char *weights, *given, *labels, *centroids, *svg;
    int64_t clusters, seed, threads, examples;
    int32_t start, balanced, backend, progress;
} cluster_options;

/* Fills in the defaults, then what argv says. */
arguments_result cluster_options_read(cluster_options *o, int argc, char **argv);

#endif
