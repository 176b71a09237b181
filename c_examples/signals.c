#define _POSIX_C_SOURCE 200809L /* sigwait, pthread_sigmask */

#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock; /* of `heard` */
    int heard;
    setun_cancel *cancel;
    const char *const *messages;
    int count;
} state = {PTHREAD_MUTEX_INITIALIZER, 0, NULL, NULL, 0};

static sigset_t both(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

static int tell(const char *message)
{
    return write(STDERR_FILENO, "\n", 1) == 1 && write(STDERR_FILENO, message, strlen(message)) > 0 &&
           write(STDERR_FILENO, "\n", 1) == 1;
}

/* A thread, because a signal handler may not call the library. */
static void *wait_for_signals(void *unused)
{
    sigset_t set = both();
    int received;
    (void)unused;
    for (int i = 0; i < state.count; i++) {
        if (sigwait(&set, &received) != 0)
            return NULL;
        pthread_mutex_lock(&state.lock);
        state.heard++;
        pthread_mutex_unlock(&state.lock);
        if (!tell(state.messages[i]) || (i + 1 == state.count && setun_cancel_request(state.cancel) != SETUN_OK))
            _exit(1);
    }
    if (sigwait(&set, &received) == 0)
        _exit(130);
    return NULL;
}

int signals_watch(setun_cancel *cancel, const char *const *messages, int count)
{
    sigset_t set = both();
    pthread_t thread;
    state.cancel = cancel, state.messages = messages, state.count = count;
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 || pthread_create(&thread, NULL, wait_for_signals, NULL) != 0) {
        fprintf(stderr, "the thread that waits for Ctrl-C cannot be started\n");
        return -1;
    }
    pthread_detach(thread);
    return 0;
}

int signals_heard(void)
{
    pthread_mutex_lock(&state.lock);
    int heard = state.heard;
    pthread_mutex_unlock(&state.lock);
    return heard;
}

void signals_release(void)
{
    sigset_t set = both();
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
