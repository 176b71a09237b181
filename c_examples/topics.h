/* What the clusters of a text are about. */
#ifndef TOPICS_H
#define TOPICS_H

#include "points.h"

/* Tells of each cluster its size, the words that set it apart, and the beginnings of the `examples` parts nearest to its
   centroid. Returns 0, or -1 after a message. */
int topics_print(const points *p, const int32_t *labels, const float *centroids, const int64_t *sizes, int64_t k,
                 int64_t examples);

#endif
