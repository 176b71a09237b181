/* Clusters points by exact k-means: cc -std=c99 -O2 -I../include cluster.c -L../target/release -lsetun -lm
   -Wl,-rpath,../target/release -o cluster && ./cluster [K [FILE COLUMNS]]   (raw f32; default: 8, and 5000 x 16 of its own) */
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(setun_status status)
{
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    return status != SETUN_OK;
}

/* Eight clouds: sums of twelve uniform numbers are nearly Gaussian. */
static float *clouds(int64_t n, int64_t d)
{
    float *x = calloc((size_t)(n * d), sizeof *x);
    for (int64_t i = 0; x != NULL && i < n * d; i++) {
        for (int draw = 0; draw < 12; draw++)
            x[i] += (float)rand() / (float)RAND_MAX - .5f;
        x[i] += (float)((i / d % 8 * 7 + i % d * 5) % 11);
    }
    return x;
}

static float *load(const char *path, int64_t d, int64_t *n)
{
    float *x = NULL;
    FILE *file = fopen(path, "rb");
    long bytes = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
    if (d > 0 && d <= 65536 && bytes > 0 && bytes % (long)(sizeof *x * (size_t)d) == 0)
        x = malloc((size_t)bytes);
    if (x != NULL && (fseek(file, 0, SEEK_SET) != 0 || fread(x, 1, (size_t)bytes, file) != (size_t)bytes))
        free(x), x = NULL;
    if (file != NULL)
        fclose(file);
    *n = x != NULL ? bytes / (int64_t)sizeof *x / d : 0;
    return x;
}

int main(int argc, char **argv)
{
    int64_t k = argc > 1 ? atoll(argv[1]) : 8, n = 5000, d = argc == 4 ? atoll(argv[3]) : 16;
    float *x = argc == 4 ? load(argv[2], d, &n) : clouds(n, d);
    int32_t *labels = calloc(n > 0 ? (size_t)n : 1, sizeof *labels);
    int64_t *sizes = calloc(k > 0 && k <= n ? (size_t)k : 1, sizeof *sizes);
    setun_kmeans_options options;
    setun_kmeans_report report = {.struct_size = sizeof report};
    setun_kmeans *kmeans = NULL;
    setun_kmeans_options_init(&options, sizeof options);
    options.n_init = 4;
    int bad = argc == 3 || argc > 4 || x == NULL || labels == NULL || sizes == NULL;
    if (bad)
        fprintf(stderr, "usage: cluster [K [FILE COLUMNS]]: a file of rows of COLUMNS 32-bit floats\n");
    bad = bad || failed(setun_kmeans_create(k, &options, &kmeans)) ||
          failed(setun_kmeans_fit(kmeans, x, n, d, NULL, labels)) ||
          failed(setun_kmeans_last_report(kmeans, &report));
    if (!bad) {
        for (int64_t i = 0; i < n; i++)
            sizes[labels[i]]++;
        printf("%lld points of %lld numbers, %lld clusters: inertia %.6g after %lld iterations of run %lld%s\nsizes",
               (long long)n, (long long)d, (long long)k, report.inertia, (long long)report.iterations,
               (long long)report.run, report.converged ? ", a fixed point" : "");
        for (int64_t cluster = 0; cluster < k; cluster++)
            printf(" %lld", (long long)sizes[cluster]);
        printf("\n");
    }
    setun_kmeans_free(kmeans);
    free(x), free(labels), free(sizes);
    return bad;
}
