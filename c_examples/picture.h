/* A picture of clustered points, as SVG. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdint.h>

typedef struct {
    const float *x; /* [n, d] */
    int64_t n, d;
    const int32_t *labels;  /* [n] */
    const float *centroids; /* [k, d] */
    int64_t k;
    const int64_t *sizes; /* [k] */
} picture;

/* Draws up to 10000 of the points in the colours of their clusters, and the centroids: as they are where d is 2, beside
   their number where d is 1, else along the first two principal axes of a sample. Returns 0, or -1 after a message. */
int picture_write(const picture *p, const char *path);

#endif
