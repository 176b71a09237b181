/* The axes of pictures. */
#ifndef AXIS_H
#define AXIS_H

/* The distance between two ticks: 1, 2 or 5 times a power of ten, so that about six fit into the range. */
double axis_distance(double range);

#endif
