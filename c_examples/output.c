#define _POSIX_C_SOURCE 200809L /* stat */

#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

int output_ends(const char *path, const char *end)
{
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

int output_open(output *o, const char *path)
{
    struct stat there;
    int in_place = stat(path, &there) == 0 && !S_ISREG(there.st_mode);
    o->path = path, o->file = NULL;
    errno = ENAMETOOLONG;
    if (in_place)
        o->beside[0] = '\0', o->file = fopen(path, "wb");
    else if (snprintf(o->beside, sizeof o->beside, "%s.part", path) < (int)sizeof o->beside)
        o->file = fopen(o->beside, "wb");
    if (o->file != NULL)
        return 0;
    fprintf(stderr, "%s cannot be written: %s\n", path, strerror(errno));
    return -1;
}

int output_close(output *o, int failed)
{
    int why = 0, beside = o->beside[0] != '\0', unwritten = ferror(o->file);
    errno = 0;
    if (fclose(o->file) != 0 || (!failed && !unwritten && beside && rename(o->beside, o->path) != 0))
        unwritten = 1, why = errno;
    if (unwritten)
        fprintf(stderr, "%s cannot be written: %s\n", o->path, why != 0 ? strerror(why) : "there may be no room");
    if ((unwritten || failed) && beside)
        remove(o->beside);
    return unwritten || failed ? -1 : 0;
}

int output_possible(const char *path)
{
    output o;
    if (path == NULL)
        return 0;
    if (output_open(&o, path) != 0)
        return -1;
    fclose(o.file);
    if (o.beside[0] != '\0')
        remove(o.beside);
    return 0;
}

/* What comes before the numbers of a .npy file, version 1.0: 10 bytes and a line, 128 together. */
static void npy_header(FILE *file, const char *type, int vector, int64_t rows, int64_t columns)
{
    char line[118];
    int used = snprintf(line, sizeof line, "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRId64 ",", type, rows);
    if (!vector)
        used += snprintf(line + used, sizeof line - (size_t)used, " %" PRId64, columns);
    used += snprintf(line + used, sizeof line - (size_t)used, "), }");
    memset(line + used, ' ', sizeof line - (size_t)used - 1);
    line[sizeof line - 1] = '\n';
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
    fwrite(line, 1, sizeof line, file);
}

static char behind(const char *path, int64_t column, int64_t columns)
{
    return column + 1 == columns ? '\n' : output_ends(path, ".tsv") ? '\t' : ',';
}

int output_integers(const char *path, const int32_t *numbers, int64_t rows, int64_t columns)
{
    output o;
    if (output_open(&o, path) != 0)
        return -1;
    if (output_ends(path, ".npy")) {
        npy_header(o.file, "<i4", columns == 1, rows, columns);
        fwrite(numbers, sizeof *numbers, (size_t)(rows * columns), o.file);
    } else {
        for (int64_t i = 0; i < rows * columns; i++)
            fprintf(o.file, "%" PRId32 "%c", numbers[i], behind(path, i % columns, columns));
    }
    return output_close(&o, 0);
}

int output_floats(const char *path, const float *numbers, int64_t rows, int64_t columns)
{
    output o;
    if (output_open(&o, path) != 0)
        return -1;
    if (output_ends(path, ".npy")) {
        npy_header(o.file, "<f4", 0, rows, columns);
        fwrite(numbers, sizeof *numbers, (size_t)(rows * columns), o.file);
    } else {
        for (int64_t i = 0; i < rows * columns; i++)
            fprintf(o.file, "%.9g%c", numbers[i], behind(path, i % columns, columns));
    }
    return output_close(&o, 0);
}
