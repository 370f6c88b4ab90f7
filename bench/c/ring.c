/*
 * A submission ring of 64-byte descriptors and a completion ring of 16-byte entries with a phase bit, driven in batches:
 * fill, doorbell, the device's part (which completes at once, in this thread), take the completions, doorbell.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bench.h"

#define ENTRIES 256
#define MASK (ENTRIES - 1)
#define PHASE (1u << 16)

struct descriptor {
	uint32_t words[16];
};

struct completion {
	uint32_t id, detail, reserved;
	volatile uint32_t last; /* id, phase: written last by the device, polled by the driver */
};

static struct descriptor *sq;
static struct completion *cq;
static volatile uint32_t *doorbell;
static const struct descriptor template = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static uint32_t batch;
static int whole; /* all of a descriptor is written, or three words of it */

static uint32_t sq_tail, sq_head;
static uint32_t cq_head, expected = PHASE;
static uint32_t device_sq, device_cq, device_phase = PHASE;

static void device(void)
{
	uint32_t tail = doorbell[0];

	while (device_sq != tail) {
		struct completion *entry = &cq[device_cq];

		entry->id = sq[device_sq].words[0] >> 16;
		entry->detail = 1;
		entry->reserved = 0;
		__asm__ volatile("" ::: "memory");
		entry->last = device_phase;
		device_sq = (device_sq + 1) & MASK;
		device_cq = (device_cq + 1) & MASK;
		if (device_cq == 0)
			device_phase ^= PHASE;
	}
}

static void run(long operations, double *out)
{
	uint32_t sum = 0, want = 0;
	uint64_t start = now_ns();

	for (long done = 0; done < operations; done += batch) {
		uint32_t taken = 0;

		for (uint32_t i = 0; i < batch; i++) {
			if (((sq_tail + 1) & MASK) == sq_head)
				break;
			if (whole)
				sq[sq_tail] = template;
			sq[sq_tail].words[0] = template.words[0] | i << 16;
			sq[sq_tail].words[2] = i;
			sq[sq_tail].words[3] = 0;
			sq_tail = (sq_tail + 1) & MASK;
		}
		__asm__ volatile("" ::: "memory");
		doorbell[0] = sq_tail;
		device();
		while ((cq[cq_head].last & PHASE) == expected) {
			sum += cq[cq_head].id;
			cq_head = (cq_head + 1) & MASK;
			if (cq_head == 0)
				expected ^= PHASE;
			taken++;
		}
		doorbell[1] = cq_head;
		sq_head = (sq_head + taken) & MASK;
	}
	out[0] = (double)(now_ns() - start) / operations;
	for (long done = 0; done < operations; done += batch)
		want += batch * (batch - 1) / 2;
	check(sum == want, "ring: completions are missing");
}

int main(int argc, char **argv)
{
	int fd = memfd_create("rings", 0);
	char *memory;

	batch = argc > 1 ? atoi(argv[1]) : 1;
	whole = argc > 2 && strcmp(argv[2], "whole") == 0;
	if (fd < 0 || ftruncate(fd, 0x10000) < 0)
		fail("memfd");
	memory = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	sq = (struct descriptor *)memory;
	for (int i = 0; i < ENTRIES; i++)
		sq[i] = template;
	cq = (struct completion *)(memory + 0x8000);
	doorbell = (volatile uint32_t *)(memory + 0xf000);
	return serve(run, 1);
}
