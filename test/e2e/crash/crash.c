/* Copyright The coredump authors.
 * SPDX-License-Identifier: Apache-2.0
 *
 * crash [-m MIB] [-t THREADS] [-n] [-w] [-s SECONDS] [-c COUNT [-p MILLISECONDS]]: fills memory with a known pattern, and crashes in crash_here().
 *
 *   -m  size of the pattern (default 1)
 *   -t  number of threads (default 1); the third crashes, or the last
 *   -n  do so in a child in new user, pid, mount and network namespaces, and end with 0 after it
 *   -w  crash when SIGTERM comes, not before
 *   -s  wait that long first (default 0)
 *   -c  do so in that many children, one after the other; say of each on standard output "crashed PID DUMPED", DUMPED 1 where the kernel says that it
 *       left a dump, else 0; then "done", and end with 0
 *   -p  pause after each of them (default 0)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the tests look for in the core: pattern_size bytes at pattern. */
uint8_t *pattern;
size_t pattern_size = 1 << 20;

static sigset_t term;
static int on_term;

/* The same numbers as pattern() of pattern_test.go. */
static void fill(void) {
	uint32_t x = 12345;
	pattern = malloc(pattern_size);
	if (pattern == NULL) exit(3);
	for (size_t i = 0; i < pattern_size; i++) {
		x = x * 1103515245u + 12345u;
		pattern[i] = x >> 16;
	}
}

__attribute__((noinline)) static int crash_here(volatile int *where) { return *where; }

static void crash(void) {
	int s;
	if (on_term) sigwait(&term, &s);
	exit(crash_here(NULL));
}

static void *thread(void *crashes) {
	if (crashes != NULL) crash();
	for (;;) pause();
	return NULL;
}

static void run(int threads) {
	int crashing = threads < 3 ? threads : 3; /* counted from 1, the first is this one */
	fprintf(stderr, "about to crash\n");
	fill();
	for (int i = 2; i <= threads; i++) {
		pthread_t t;
		/* The one that crashes comes last, so that all are there. */
		if (i != crashing && pthread_create(&t, NULL, thread, NULL) != 0) exit(4);
	}
	if (crashing > 1) {
		pthread_t t;
		if (pthread_create(&t, NULL, thread, &pattern) != 0) exit(4);
		for (;;) pause();
	}
	crash();
}

static int run_children(int count, int pause_ms, int threads) {
	for (int i = 0; i < count; i++) {
		int status;
		pid_t child = fork();
		if (child == 0) run(threads);
		if (child < 0 || waitpid(child, &status, 0) != child) return 6;
		printf("crashed %d %d\n", (int)child, WIFSIGNALED(status) && WCOREDUMP(status) ? 1 : 0);
		fflush(stdout);
		usleep(pause_ms * 1000);
	}
	printf("done\n");
	return 0;
}

int main(int argc, char **argv) {
	int threads = 1, nested = 0, seconds = 0, count = 0, pause_ms = 0, o;
	while ((o = getopt(argc, argv, "m:t:nws:c:p:")) != -1) switch (o) {
		case 'm': pattern_size = (size_t)atoi(optarg) << 20; break;
		case 't': threads = atoi(optarg); break;
		case 'n': nested = 1; break;
		case 'w': on_term = 1; break;
		case 's': seconds = atoi(optarg); break;
		case 'c': count = atoi(optarg); break;
		case 'p': pause_ms = atoi(optarg); break;
		default: return 2;
	}
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (on_term) sigprocmask(SIG_BLOCK, &term, NULL);
	sleep(seconds);
	if (nested) {
		pid_t child;
		int status;
		if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET) != 0) {
			perror("unshare");
			return 5;
		}
		child = fork();
		if (child == 0) run(threads);
		if (child < 0 || waitpid(child, &status, 0) != child) return 6;
		return 0;
	}
	if (count > 0) return run_children(count, pause_ms, threads);
	run(threads);
	return 0;
}
