/* libfaketime shifts the deadline of pthread_cond_timedwait, but not that of C11's cnd_timedwait, which librdkafka
 * uses: its threads would wait for the length of the shift, or spin. In glibc both have the same structures. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *deadline) {
    int error = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, deadline);
    return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : thrd_error;
}
