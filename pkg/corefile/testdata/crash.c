// Crashes in the way that its first argument says, with as many further threads as the second says.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int zero, one = 1;

__attribute__((noinline)) static void null_write(volatile int *p) { p[2] = 1; }
__attribute__((noinline)) static void other_write(volatile int *p) { p[3] = 2; }
__attribute__((noinline)) static int divide(int n) { return n * one / zero; }
__attribute__((noinline)) static int run_over(int n) {
	volatile char b[4096];
	b[n % 4096] = 1;
	return run_over(n + 1) + b[0];
}
__attribute__((noinline)) static void call_nothing(void) {
	void (*volatile f)(void) = NULL;
	f();
	zero = 1;
}

__attribute__((noinline)) static void inner(const char *how) {
	if (!strcmp(how, "null"))
		null_write(NULL);
	if (!strcmp(how, "other"))
		other_write(NULL);
	if (!strcmp(how, "divide"))
		zero = divide(1);
	if (!strcmp(how, "overflow"))
		zero = run_over(1);
	if (!strcmp(how, "call"))
		call_nothing();
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGSEGV);
	if (!strcmp(how, "abort"))
		abort();
	zero = 2;
}

__attribute__((noinline)) static void middle(const char *how) {
	inner(how);
	zero = 3;
}

static pthread_barrier_t ready;

static void *idle(void *arg) {
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return arg;
}

static void *crash(void *how) {
	pthread_barrier_wait(&ready);
	middle(how);
	return NULL;
}

int main(int argc, char **argv) {
	int n = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t t;
	alarm(60);
	if (n == 0) {
		middle(argv[1]);
		return 1;
	}
	pthread_barrier_init(&ready, NULL, n + 1);
	for (int i = 0; i < n; i++) // the one in the middle crashes
		pthread_create(&t, NULL, i == n / 2 ? crash : idle, argv[1]);
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
}
