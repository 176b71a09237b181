/* Command lines from a table of options: --name VALUE or --name=VALUE, and --flag; names of one letter have one dash. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    ARGUMENT_FLAG,   /* int32_t *: becomes 1 */
    ARGUMENT_TEXT,   /* const char ** */
    ARGUMENT_COUNT,  /* int64_t *: a whole number, not negative */
    ARGUMENT_REAL,   /* double *: a finite number */
    ARGUMENT_CHOICE, /* int32_t *: the index of the word in `choices` */
} argument_kind;

typedef struct {
    const char *name; /* without the dashes; NULL: `help` is the title of a group */
    argument_kind kind;
    void *value;         /* holds the default when arguments_read is called */
    const char *choices; /* of a CHOICE: "one|two|three" */
    const char *help;
} argument;

typedef enum { ARGUMENTS_OK, ARGUMENTS_HELP, ARGUMENTS_WRONG } arguments_result;

/* Reads argv into the values of the table. --help prints `about` and the table with its defaults; a mistake is told on
   stderr. */
arguments_result arguments_read(int argc, char **argv, const argument *table, size_t count, const char *about);

/* Reads a whole number from 0 on. Returns whether it was one. */
int arguments_count(const char *text, int64_t *value);

/* Writes the command line to stdout as a shell would read it back, without `without` and with `extra` at its end. */
void arguments_print(int argc, char **argv, const char *without, const char *extra);

#endif
