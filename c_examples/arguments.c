#include "arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The index of `word` among "one|two|three", or -1. */
static int32_t choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (int32_t index = 0; choices != NULL; index++) {
        size_t here = strcspn(choices, "|");
        if (here == length && strncmp(choices, word, length) == 0)
            return index;
        choices = choices[here] == '|' ? choices + here + 1 : NULL;
    }
    return -1;
}

int arguments_count(const char *text, int64_t *value)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < 0)
        return 0;
    *value = number;
    return 1;
}

/* A number; nan too where nan is the default, and has a meaning. */
static int read_real(const char *text, double *value)
{
    char *end = NULL;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || isinf(number) || (isnan(number) && !isnan(*value)))
        return 0;
    *value = number;
    return 1;
}

static const char *dashes(const argument *a)
{
    return strlen(a->name) == 1 ? "-" : "--";
}

static int set(const argument *a, const char *text)
{
    int32_t index;
    switch (a->kind) {
    case ARGUMENT_FLAG:
        fprintf(stderr, "%s%s takes no value\n", dashes(a), a->name);
        return 0;
    case ARGUMENT_TEXT:
        *(const char **)a->value = text;
        return 1;
    case ARGUMENT_COUNT:
        if (arguments_count(text, a->value))
            return 1;
        fprintf(stderr, "%s%s takes a whole number from 0 on, not '%s'\n", dashes(a), a->name, text);
        return 0;
    case ARGUMENT_REAL:
        if (read_real(text, a->value))
            return 1;
        fprintf(stderr, "%s%s takes a number, not '%s'\n", dashes(a), a->name, text);
        return 0;
    case ARGUMENT_CHOICE:
        index = choice(a->choices, text);
        if (index >= 0) {
            *(int32_t *)a->value = index;
            return 1;
        }
        fprintf(stderr, "%s%s takes %s, not '%s'\n", dashes(a), a->name, a->choices, text);
        return 0;
    }
    return 0;
}

static void print_default(const argument *a)
{
    const char *text = a->kind == ARGUMENT_TEXT ? *(const char **)a->value : NULL;
    const char *word = a->choices;
    switch (a->kind) {
    case ARGUMENT_TEXT:
        if (text != NULL)
            printf(" (%s)", text);
        break;
    case ARGUMENT_COUNT:
        printf(" (%" PRId64 ")", *(int64_t *)a->value);
        break;
    case ARGUMENT_REAL:
        printf(" (%g)", *(double *)a->value);
        break;
    case ARGUMENT_CHOICE:
        for (int32_t i = 0; i < *(int32_t *)a->value; i++)
            word += strcspn(word, "|") + 1;
        printf(": %s (%.*s)", a->choices, (int)strcspn(word, "|"), word);
        break;
    case ARGUMENT_FLAG:
        break;
    }
}

static void print_help(const argument *table, size_t count, const char *about)
{
    static const char *const values[] = {"", " TEXT", " N", " X", " WORD"};
    printf("%s\n", about);
    for (size_t i = 0; i < count; i++) {
        const argument *a = &table[i];
        if (a->name == NULL) {
            printf("\n%s\n", a->help);
            continue;
        }
        int used = printf("  %s%s%s", dashes(a), a->name, values[a->kind]);
        printf("%*s %s", used < 29 ? 29 - used : 0, "", a->help);
        print_default(a);
        printf("\n");
    }
}

static const argument *find(const argument *table, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].name != NULL && strlen(table[i].name) == length && strncmp(table[i].name, name, length) == 0)
            return &table[i];
    return NULL;
}

arguments_result arguments_read(int argc, char **argv, const argument *table, size_t count, const char *about)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(table, count, about);
            return ARGUMENTS_HELP;
        }
    }
    for (int i = 1; i < argc; i++) {
        int dash = argv[i][0] == '-' ? argv[i][1] == '-' ? 2 : 1 : 0;
        const char *name = argv[i] + dash;
        size_t length = strcspn(name, "=");
        const argument *a = dash == (length == 1 ? 1 : 2) ? find(table, count, name, length) : NULL;
        if (a == NULL) {
            fprintf(stderr, "there is no option '%s'; --help lists them\n", argv[i]);
            return ARGUMENTS_WRONG;
        }
        if (a->kind == ARGUMENT_FLAG && name[length] == '\0') {
            *(int32_t *)a->value = 1;
            continue;
        }
        const char *value = name[length] == '=' ? name + length + 1 : argv[++i];
        if (value == NULL) {
            fprintf(stderr, "%s%s needs a value\n", dashes(a), a->name);
            return ARGUMENTS_WRONG;
        }
        if (!set(a, value))
            return ARGUMENTS_WRONG;
    }
    return ARGUMENTS_OK;
}

/* In single quotes where the shell would read something else; a single quote itself as '\''. */
static void print_quoted(const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./=,:+@%";
    if (*text != '\0' && text[strspn(text, plain)] == '\0') {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

void arguments_print(int argc, char **argv, const char *without, const char *extra)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], without) == 0)
            continue;
        print_quoted(argv[i]);
        putchar(' ');
    }
    printf("%s\n", extra);
}
