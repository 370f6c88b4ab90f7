/* A 32-bit register read or written again and again, as a C driver does it: one volatile access each. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bench.h"

#define VALUE 0x92345678u

static volatile uint32_t *reg;

static void reads(long operations, double *out)
{
	uint32_t sum = 0;
	uint64_t start = now_ns();

	for (long i = 0; i < operations; i++)
		sum += *reg;
	out[0] = (double)(now_ns() - start) / operations;
	check(sum == (uint32_t)operations * VALUE, "register: wrong sum");
}

static void writes(long operations, double *out)
{
	uint64_t start = now_ns();

	for (long i = 0; i < operations; i++)
		*reg = (uint32_t)i;
	out[0] = (double)(now_ns() - start) / operations;
	check(*reg == (uint32_t)(operations - 1), "register: wrong last value");
}

int main(int argc, char **argv)
{
	int write = argc > 1 && strcmp(argv[1], "write") == 0;
	int fd = memfd_create("register", 0);

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		fail("memfd");
	reg = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (reg == MAP_FAILED)
		fail("mmap");
	*reg = VALUE;
	return serve(write ? writes : reads, 1);
}
