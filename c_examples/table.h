/* Tables of numbers in texts: .csv and .tsv files, or numbers with spaces between them. */
#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>
#include <stdint.h>

/* Columns that were chosen. */
typedef struct {
    char *chosen; /* [count]: whether each is; NULL: all are */
    int64_t count;
} columns;

/* Reads a choice such as "1-4,7", counted from 1; NULL chooses all. Free it with free(c->chosen). Returns 0, or -1 after a
   message. */
int columns_read(columns *c, const char *text);

/* Whether a column is chosen, counted from 0. */
int columns_has(const columns *c, int64_t column);

/* How many of so many columns are chosen; -1 after a message if there are fewer than the choice names. */
int64_t columns_of(const columns *c, int64_t width, const char *name);

/* Reads the numbers of the chosen columns, x [n, d], from a text with a NUL behind it. Each line is a row; commas, semicolons,
   tabs or spaces are between its cells. A first line without a number names the columns; cells that are not chosen may
   hold anything. Free x with free. Returns 0, or -1 after a message that begins with `name` and says line and column. */
int table_read(const char *name, const char *text, size_t bytes, const columns *c, float **x, int64_t *n, int64_t *d);

#endif
