// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Crashes a process with as much dirty memory as is asked for, and measures from outside how long the kernel holds it for its dump.
//
//	crasher MIB [FILE]
//
// The memory is filled with random pages, or with what FILE has. It prints one line: the microseconds between the instruction that
// crashes and the moment the process can be reaped, and the CPU time that the kernel spent in it meanwhile.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct start {
	int64_t crash, cpu; // microseconds
};

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int64_t cpu(const struct rusage *u)
{
	return (u->ru_stime.tv_sec + u->ru_utime.tv_sec) * 1000000LL + u->ru_stime.tv_usec + u->ru_utime.tv_usec;
}

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void fill(uint64_t *memory, size_t size, const char *file)
{
	if (!file) {
		uint64_t x = 88172645463325252ULL; // xorshift64
		for (size_t i = 0; i < size / sizeof x; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memory[i] = x;
		}
		return;
	}
	int fd = open(file, O_RDONLY);
	if (fd < 0)
		die(file);
	for (size_t n = 0; n < size;) {
		ssize_t m = read(fd, (char *)memory + n, size - n);
		if (m < 0)
			die(file);
		if (m == 0)
			break;
		n += m;
	}
	close(fd);
}

static void crash(struct start *start, size_t size, const char *file)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	if (setrlimit(RLIMIT_CORE, &limit))
		die("setrlimit");
	void *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	fill(memory, size, file);
	usleep(200000); // whoever started this is at rest again
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	start->cpu = cpu(&used);
	start->crash = now();
	*(volatile int *)0 = 42;
	_exit(1);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	struct start *start = mmap(0, sizeof *start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (start == MAP_FAILED)
		die("mmap");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0)
		crash(start, (size_t)atol(argv[1]) << 20, argc > 2 ? argv[2] : 0);
	int status;
	struct rusage used;
	if (wait4(child, &status, 0, &used) != child)
		die("wait4");
	int64_t end = now();
	if (!WIFSIGNALED(status)) {
		fprintf(stderr, "it did not crash\n");
		return 1;
	}
	printf("%lld %lld\n", (long long)(end - start->crash), (long long)(cpu(&used) - start->cpu));
	return 0;
}
