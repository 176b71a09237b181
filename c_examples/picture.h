/* A picture of clustered points, as SVG. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdint.h>

/* Draws up to 4000 of the points x [n, d] in the colours of their labels, and the centroids [k, d]: as they are where d is 2,
   over their number where d is 1, else along the first two principal axes. The file is whole or is not there; -1 after a
   message. */
int picture_write(const char *path, const float *x, int64_t n, int64_t d, const int32_t *labels, const float *centroids,
                  int64_t k, const int64_t *sizes);

#endif
