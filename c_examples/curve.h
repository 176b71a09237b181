/* The loss curve of a run as an SVG picture. */
#ifndef CURVE_H
#define CURVE_H

/* Draws metrics.jsonl in `folder` into loss.svg beside it: the training and validation losses, below them learning rate and
   length of the steps, the share of trits that changed, and upright lines where the guard did something; and writes its path to
   `path`, which has room for `size` characters. Returns 0, or -1 after a message on stderr. A run with fewer than two
   reports has no curve: `path` becomes "". */
int curve_write(const char *folder, char *path, int size);

#endif
