/* The loss curve of a run as an SVG picture. */
#ifndef CURVE_H
#define CURVE_H

/* Draws the training and validation losses of metrics.jsonl in `folder` into loss.svg beside it, and writes its path to
   `path`, which has room for `size` characters. Returns 0, or -1 after a message on stderr. A run with fewer than two
   reports has no curve: `path` becomes "". */
int curve_write(const char *folder, char *path, int size);

#endif
