/* Ctrl-C, and requests to end, as programs hear them that have something to save. */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <setun.h>

/* From now on a thread waits for them, which writes a message for each to stderr: with the last message the token is
   raised, and one signal more ends the program at once. To be called before any other thread starts, so that all of them
   leave the signals to the one that waits. Returns 0, or -1 after a message. */
int signals_watch(setun_cancel *cancel, const char *const *messages, int count);

/* How many were heard. */
int signals_heard(void);

/* From now on they end the program as usual: everything is saved. */
void signals_release(void);

#endif
