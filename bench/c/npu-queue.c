/*
 * The host's part of the NPU queue: jobs of one descriptor are pushed (copied, given their CID, noted), announced with one
 * doorbell, and later taken off the completion ring, each with its callback. The device's part is not timed.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bench.h"

#define ENTRIES 256
#define MASK (ENTRIES - 1)
#define BATCH (ENTRIES - 1)
#define PHASE (1u << 16)

struct job {
	uint32_t words[16];
};

typedef void (*done_fn)(int status, double cycles);

static struct slot {
	int left, failed_status, failed_step;
	uint32_t failed_detail;
	double cycles;
	const struct job *job;
	done_fn done;
} slots[ENTRIES];

static int free_slots[ENTRIES], free_count;
static int ended[ENTRIES], ended_count;
static struct job *sq;
static struct completion {
	uint32_t step, detail, reserved;
	volatile uint32_t last; /* CID, phase at bit 16, status at bit 24 */
} *cq;
static volatile uint32_t *doorbell, *wake_at, *wake;
static uint32_t sq_tail, sq_head, cq_head, expected = PHASE;
static uint32_t tail, rung, head;
static uint32_t device_slot, device_phase = PHASE;
static long told;

static void push(const struct job *job, done_fn done)
{
	int index = free_slots[--free_count];
	struct slot *slot = &slots[index];

	slot->left = 1;
	slot->job = job;
	slot->done = done;
	slot->failed_status = 0;
	slot->cycles = 0;
	sq[sq_tail] = *job;
	sq[sq_tail].words[0] |= (uint32_t)index << 16;
	sq_tail = (sq_tail + 1) & MASK;
	tail++;
}

static void ring(void)
{
	uint32_t old = rung;

	if (tail == old)
		return;
	rung = tail;
	__asm__ volatile("" ::: "memory");
	doorbell[0] = tail;
	__sync_synchronize();
	if (tail - *wake_at - 1 < tail - old)
		*wake = 1;
}

static void complete(uint32_t cid, uint32_t status, uint32_t step, uint32_t detail)
{
	struct slot *slot = &slots[cid];

	if (cid >= ENTRIES || slot->left == 0)
		return;
	if (status == 0) {
		slot->cycles += detail;
	} else if (slot->failed_status == 0) {
		slot->failed_status = status;
		slot->failed_step = step;
		slot->failed_detail = detail;
	}
	if (--slot->left == 0)
		ended[ended_count++] = cid;
}

static void poll_queue(void)
{
	uint32_t count = 0, limit = (sq_tail - sq_head) & MASK;

	while (count < limit) {
		struct completion *entry = &cq[cq_head];
		uint32_t last = entry->last;

		if ((last & PHASE) != expected)
			break;
		complete(last & 0xffff, last >> 24, entry->step, entry->detail);
		cq_head = (cq_head + 1) & MASK;
		if (cq_head == 0)
			expected ^= PHASE;
		count++;
	}
	if (count == 0)
		return;
	head += count;
	doorbell[1] = head;
	sq_head = (sq_head + count) & MASK;
	for (int i = 0; i < ended_count; i++) {
		struct slot *slot = &slots[ended[i]];

		free_slots[free_count++] = ended[i];
		slot->done(slot->failed_status, slot->cycles);
	}
	ended_count = 0;
}

static void device(void)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		struct completion *entry = &cq[device_slot];

		entry->step = 0;
		entry->detail = 1;
		entry->last = (sq[(sq_head + i) & MASK].words[0] >> 16) | device_phase;
		device_slot = (device_slot + 1) & MASK;
		if (device_slot == 0)
			device_phase ^= PHASE;
	}
	*wake_at = tail;
}

static void note(int status, double cycles)
{
	told += status == 0 && cycles == 1;
}

static void run(long operations, double *out)
{
	static const struct job job = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
	uint64_t submitting = 0, completing = 0;
	long done;

	told = 0;
	for (done = 0; done < operations; done += BATCH) {
		uint64_t start = now_ns();

		for (int i = 0; i < BATCH; i++)
			push(&job, note);
		ring();
		submitting += now_ns() - start;
		device();
		start = now_ns();
		poll_queue();
		completing += now_ns() - start;
	}
	out[0] = (double)submitting / done;
	out[1] = (double)completing / done;
	check(told == done, "npu-queue: completions are missing");
}

int main(void)
{
	int fd = memfd_create("rings", 0);
	char *memory;

	if (fd < 0 || ftruncate(fd, 0x10000) < 0)
		fail("memfd");
	memory = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	sq = (struct job *)memory;
	cq = (struct completion *)(memory + 0x8000);
	wake_at = (volatile uint32_t *)(memory + 0xd000);
	wake = (volatile uint32_t *)(memory + 0xe000);
	doorbell = (volatile uint32_t *)(memory + 0xf000);
	for (free_count = 0; free_count < ENTRIES; free_count++)
		free_slots[free_count] = free_count;
	return serve(run, 2);
}
