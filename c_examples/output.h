/* Files that are whole or are not there: written beside the one whose place they take. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdint.h>
#include <stdio.h>

typedef struct {
    FILE *file;
    const char *path;
    char beside[4096]; /* "": written in place, as devices and pipes are */
} output;

/* Opens a file beside `path`. Returns 0, or -1 after a message. */
int output_open(output *o, const char *path);

/* Closes it, and puts it in its place unless it could not be written or `failed`. Returns likewise. */
int output_close(output *o, int failed);

/* Whether a file could be written there, found out before the work is done. NULL is no file. Returns likewise. */
int output_possible(const char *path);

/* Write numbers [rows, columns]: a .npy file if the path ends so, else one row a line, with commas (tabs in a .tsv file).
   One column of integers is a vector. Return likewise. */
int output_integers(const char *path, const int32_t *numbers, int64_t rows, int64_t columns);
int output_floats(const char *path, const float *numbers, int64_t rows, int64_t columns);

/* Whether the path ends so. */
int output_ends(const char *path, const char *end);

#endif
