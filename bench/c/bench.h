/* What the baselines share: the clock, and the loop that serves the program that compares them. */
#ifndef UACCEL_BENCH_H
#define UACCEL_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline void check(int right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "%s\n", what);
	exit(1);
}

/* Figures of one run, at most. */
#define MAX_RESULTS 64

/* Reads a number of operations from each line of stdin, runs them, and answers with a line of `results` numbers. */
static inline int serve(void (*run)(long operations, double *out), int results)
{
	double out[MAX_RESULTS] = {0};
	long operations;

	while (scanf("%ld", &operations) == 1) {
		run(operations, out);
		for (int i = 0; i < results; i++)
			printf(i + 1 < results ? "%.3f " : "%.3f\n", out[i]);
		fflush(stdout);
	}
	return 0;
}

#endif
