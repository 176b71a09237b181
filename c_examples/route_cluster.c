/* The router: balanced spherical k-means over TF-IDF vectors of the windows. All that says it is in OUT/router.safetensors:
   the weights of the vectorizer, the centroids, and the label of each training window. */
#include "route.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 512, PARTITION = 1 << 20 };

static int no_memory(void)
{
    fprintf(stderr, "there is not enough memory for the clusters\n");
    return -1;
}

static int create(router *r, const route_options *o, const setun_context *context)
{
    setun_tfidf_options text;
    setun_kmeans_options how;
    setun_tfidf_options_init(&text, sizeof text);
    setun_kmeans_options_init(&how, sizeof how);
    text.dimensions = ROUTE_DIMENSIONS, text.context = context;
    how.spherical = 1, how.seed = (uint64_t)o->seed, how.context = context;
    if (o->balance > 0 && r->windows > 0)
        how.capacity = (int64_t)ceil(o->balance * (double)r->windows / (double)r->clusters);
    return check(setun_tfidf_create(&text, &r->tfidf), "vectors") != 0 ||
                   check(setun_kmeans_create(r->clusters, &how, &r->kmeans), "clusters") != 0
               ? -1
               : 0;
}

/* --- the file ---------------------------------------------------------------------------------------------------------- */

static int add(setun_file *file, const char *name, void *data, int32_t type, int64_t rows, int64_t columns)
{
    const int64_t dims[] = {rows, columns};
    setun_tensor *tensor = NULL;
    int failed = check(setun_tensor_wrap(data, type, dims, 2, &tensor), name) != 0 ||
                 check(setun_file_add(file, name, tensor), name) != 0;
    setun_tensor_free(tensor);
    return failed ? -1 : 0;
}

/* Reads an entry [rows, columns]; where rows is 0, it learns them. For the caller to free; NULL after a message. */
static void *take(const setun_file *file, const char *name, int32_t type, int64_t *rows, int64_t columns)
{
    int64_t index = 0;
    setun_tensor *tensor = NULL;
    void *data = NULL;
    setun_file_entry entry = {0};
    entry.struct_size = sizeof entry;
    if (check(setun_file_find(file, name, &index), name) != 0 ||
        check(setun_file_describe(file, index, &entry), name) != 0)
        return NULL;
    if (entry.is_packed || entry.rank != 2 || entry.dtype != type || entry.dims[1] != columns || entry.dims[0] < 1 ||
        (*rows != 0 && entry.dims[0] != *rows)) {
        fprintf(stderr, "%s in the file of the router is not what it has to be\n", name);
        return NULL;
    }
    *rows = entry.dims[0];
    size_t bytes = (size_t)*rows * (size_t)columns * 4; /* of a tensor that is in memory */
    if (check(setun_file_read(file, index, &tensor), name) == 0 && (data = malloc(bytes)) == NULL)
        no_memory();
    if (data != NULL && check(setun_tensor_read(tensor, data, bytes), name) != 0) {
        free(data);
        data = NULL;
    }
    setun_tensor_free(tensor);
    return data;
}

static int save(const router *r, const char *path, float *idf, float *centroids)
{
    setun_file *file = NULL;
    float seconds = (float)r->core_seconds;
    int failed = check(setun_file_create(&file), "router") != 0 ||
                 add(file, "idf", idf, SETUN_DTYPE_F32, 1, ROUTE_DIMENSIONS) != 0 ||
                 add(file, "centroids", centroids, SETUN_DTYPE_F32, r->clusters, ROUTE_DIMENSIONS) != 0 ||
                 add(file, "labels", r->labels, SETUN_DTYPE_I32, r->windows, 1) != 0 ||
                 add(file, "core_seconds", &seconds, SETUN_DTYPE_F32, 1, 1) != 0 ||
                 check(setun_file_save(file, path, NULL), "router") != 0;
    setun_file_free(file);
    return failed ? -1 : 0;
}

static int load(router *r, const route_options *o, const char *path, const setun_context *context)
{
    setun_file *file = NULL;
    int64_t one = 1;
    float *idf = NULL, *centroids = NULL, *seconds = NULL;
    int failed = check(setun_file_open(path, &file), "router") != 0 ||
                 (idf = take(file, "idf", SETUN_DTYPE_F32, &one, ROUTE_DIMENSIONS)) == NULL ||
                 (centroids = take(file, "centroids", SETUN_DTYPE_F32, &r->clusters, ROUTE_DIMENSIONS)) == NULL ||
                 (r->labels = take(file, "labels", SETUN_DTYPE_I32, &r->windows, 1)) == NULL ||
                 (seconds = take(file, "core_seconds", SETUN_DTYPE_F32, &one, 1)) == NULL || create(r, o, context) != 0 ||
                 check(setun_tfidf_set_idf(r->tfidf, idf, ROUTE_DIMENSIONS), "router") != 0 ||
                 check(setun_kmeans_set_centroids(r->kmeans, centroids, ROUTE_DIMENSIONS), "router") != 0;
    for (int64_t i = 0; i < r->windows && !failed; i++)
        failed = r->labels[i] < 0 || r->labels[i] >= r->clusters;
    if (seconds != NULL)
        r->core_seconds = *seconds;
    setun_file_free(file);
    free(idf), free(centroids), free(seconds);
    return failed ? -1 : 0;
}

/* --- making it --------------------------------------------------------------------------------------------------------- */

static int make(router *r, const route_options *o, const route_text *t, const char *path, const setun_context *context)
{
    double start = route_seconds();
    size_t rows = (size_t)t->windows, width = ROUTE_DIMENSIONS;
    r->windows = t->windows, r->clusters = o->clusters; /* no more than windows */
    float *x = calloc(rows, width * sizeof *x), *idf = calloc(width, sizeof *idf);
    float *centroids = calloc((size_t)r->clusters, width * sizeof *centroids);
    r->labels = calloc(rows, sizeof *r->labels);
    int failed = x == NULL || idf == NULL || centroids == NULL || r->labels == NULL ? no_memory() : create(r, o, context);
    failed = failed != 0 || check(setun_tfidf_fit(r->tfidf, t->bytes, t->cut, t->begins, t->ends, t->windows), "vectors") != 0 ||
             check(setun_tfidf_transform(r->tfidf, t->bytes, t->cut, t->begins, t->ends, t->windows, x), "vectors") != 0 ||
             check(setun_kmeans_fit(r->kmeans, x, t->windows, ROUTE_DIMENSIONS, NULL, r->labels), "clusters") != 0 ||
             check(setun_tfidf_idf(r->tfidf, idf, ROUTE_DIMENSIONS), "vectors") != 0 ||
             check(setun_kmeans_centroids(r->kmeans, centroids, r->clusters * ROUTE_DIMENSIONS), "clusters") != 0 ||
             /* As one that reads the file has them. */
             check(setun_kmeans_set_centroids(r->kmeans, centroids, ROUTE_DIMENSIONS), "clusters") != 0;
    r->core_seconds = route_seconds() - start;
    failed = failed || save(r, path, idf, centroids) != 0;
    free(x), free(idf), free(centroids);
    return failed ? -1 : 0;
}

/* The labels in a random order: parts of the same sizes (Fisher and Yates). */
static int divide(router *r, int64_t seed)
{
    r->parts = calloc((size_t)r->windows, sizeof *r->parts);
    r->sizes = calloc((size_t)r->clusters, sizeof *r->sizes);
    if (r->parts == NULL || r->sizes == NULL)
        return no_memory();
    for (int64_t i = 0; i < r->windows; i++) {
        int64_t j = (int64_t)(route_random(seed, PARTITION, (uint64_t)i) % (uint64_t)(i + 1));
        r->parts[i] = r->parts[j], r->parts[j] = r->labels[i];
        r->sizes[r->labels[i]]++;
    }
    return 0;
}

int router_open(router *r, const route_options *o, const route_text *t, const setun_context *context)
{
    char path[ROUTE_PATH];
    if (route_path(o, path, "router", -1, "safetensors") != 0)
        return -1;
    if (t != NULL)
        r->windows = t->windows, r->clusters = o->clusters;
    int failed = t == NULL || route_exists(path) ? load(r, o, path, context) : make(r, o, t, path, context);
    return failed != 0 ? -1 : divide(r, o->seed);
}

void router_free(router *r)
{
    setun_tfidf_free(r->tfidf);
    setun_kmeans_free(r->kmeans);
    free(r->labels), free(r->parts), free(r->sizes);
}

int router_route(const router *r, double sharpness, const char *text, size_t bytes, const int64_t *begins,
                 const int64_t *ends, int64_t n, int32_t *labels, float *weights)
{
    float *x = calloc(AT_ONCE, ROUTE_DIMENSIONS * sizeof *x);
    int failed = x == NULL ? no_memory() : 0;
    for (int64_t i = 0; i < n && !failed; i += AT_ONCE) {
        int64_t here = n - i < AT_ONCE ? n - i : AT_ONCE;
        failed = check(setun_tfidf_transform(r->tfidf, text, bytes, begins + i, ends + i, here, x), "vectors") != 0 ||
                 check(setun_kmeans_route(r->kmeans, x, here, ROUTE_DIMENSIONS, ROUTE_TOP, sharpness,
                                          labels + i * ROUTE_TOP, weights + i * ROUTE_TOP), "routes") != 0;
    }
    free(x);
    return failed ? -1 : 0;
}
