/*
 * The host's part of an NVMe queue pair, as packages/driver-nvme/src/queue.ts does it: commands are built in the ring (CID from a free
 * list, PRPs, listener noted), announced by a doorbell for each `batch` of them, and later polled off the completion ring, each
 * checked before it is believed, and its listener told. The device's part is not timed.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bench.h"

#define ENTRIES 1024
#define MASK (ENTRIES - 1)
#define DEPTH (ENTRIES - 1)
#define PHASE (1u << 16)
#define PAGE 4096u
#define QUEUE_ID 1
#define LIST_ENTRIES 512

struct command {
	uint32_t words[16];
};

struct completion {
	uint32_t result, reserved, queue; /* SQ head, SQ id << 16 */
	volatile uint32_t last; /* CID, phase at bit 16, status from bit 17 */
};

struct listener {
	void (*completed)(struct listener *self, uint32_t cid, uint32_t status, uint32_t result);
	long told;
	uint32_t sum;
};

static struct {
	struct listener *listener;
	uint32_t began;
	int aborting;
} under_way[DEPTH];
static uint16_t free_cids[DEPTH];
static int free_count, aborting_count;
static uint32_t turn;

static struct command *sq;
static struct completion *cq;
static uint64_t *lists;
static volatile uint32_t *doorbell;
static uint32_t sq_tail, sq_head, rung, cq_head, expected = PHASE;
static uint32_t device_head, device_tail, device_phase = PHASE;
static uint32_t batch, io_bytes; /* known only at run time, as a driver's are */
static uint64_t data;
static long completions, doorbell_writes;

static void point_to(struct command *command, int cid, uint64_t address, uint32_t size)
{
	uint32_t first = PAGE - (address & (PAGE - 1));
	uint64_t page = (address & ~(uint64_t)(PAGE - 1)) + PAGE, second = 0;

	if (size > first + PAGE) {
		uint64_t *list = lists + cid * LIST_ENTRIES, *entry = list;

		for (; size > first; size -= PAGE, page += PAGE)
			*entry++ = page;
		second = (uintptr_t)list;
	} else if (size > first) {
		second = page;
	}
	memcpy(&command->words[6], &address, 8);
	memcpy(&command->words[8], &second, 8);
}

static int submit(uint32_t opcode, uint32_t nsid, uint64_t address, uint32_t size, uint64_t lba, uint32_t cdw12,
		  struct listener *listener)
{
	struct command *command = &sq[sq_tail];
	int cid;

	if (((sq_tail + 1) & MASK) == sq_head || free_count == 0)
		return -1;
	cid = free_cids[--free_count];
	under_way[cid].listener = listener;
	under_way[cid].began = turn;
	command->words[0] = opcode | (uint32_t)cid << 16;
	command->words[1] = nsid;
	point_to(command, cid, address, size);
	memcpy(&command->words[10], &lba, 8);
	command->words[12] = cdw12;
	sq_tail = (sq_tail + 1) & MASK;
	return cid;
}

static void ring(void)
{
	if (sq_tail == rung)
		return;
	rung = sq_tail;
	doorbell_writes++;
	__asm__ volatile("" ::: "memory");
	doorbell[0] = sq_tail;
}

static void refuse(uint32_t cid)
{
	fprintf(stderr, "nvme-queue: a completion for CID %u, which is not under way\n", cid);
	exit(1);
}

static int poll_queue(void)
{
	int count = 0;

	while (count < DEPTH) {
		struct completion *entry = &cq[cq_head];
		uint32_t last = entry->last, cid = last & 0xffff, head;
		struct listener *listener;

		if ((last & PHASE) != expected)
			break;
		head = entry->queue & 0xffff;
		if (cid >= DEPTH || under_way[cid].listener == NULL || entry->queue >> 16 != QUEUE_ID)
			refuse(cid);
		if (head > MASK || ((head - sq_head) & MASK) > ((sq_tail - sq_head) & MASK))
			refuse(cid);
		sq_head = head;
		cq_head = (cq_head + 1) & MASK;
		if (cq_head == 0)
			expected ^= PHASE;
		count++;
		listener = under_way[cid].listener;
		under_way[cid].listener = NULL;
		if (under_way[cid].aborting) {
			under_way[cid].aborting = 0;
			aborting_count--;
		}
		free_cids[free_count++] = cid;
		listener->completed(listener, cid, last >> 17, entry->result);
	}
	if (count > 0) {
		completions += count;
		doorbell[1] = cq_head;
	}
	return count;
}

/* Completes everything up to the doorbell. */
static void device(void)
{
	uint32_t tail = doorbell[0];

	while (device_head != tail) {
		struct completion *entry = &cq[device_tail];
		uint32_t cid = sq[device_head].words[0] >> 16;

		device_head = (device_head + 1) & MASK;
		entry->result = sq[(device_head - 1) & MASK].words[10];
		entry->queue = device_head | QUEUE_ID << 16;
		__asm__ volatile("" ::: "memory");
		entry->last = cid | device_phase;
		device_tail = (device_tail + 1) & MASK;
		if (device_tail == 0)
			device_phase ^= PHASE;
	}
}

static void completed(struct listener *self, uint32_t cid, uint32_t status, uint32_t result)
{
	(void)cid;
	self->told += status == 0;
	self->sum += result;
}

/* Answers nanoseconds to build a command with its share of the doorbell, and to poll a completion. */
static void run(long operations, double *out)
{
	struct listener listener = {completed, 0, 0};
	uint64_t building = 0, polling = 0;
	uint32_t lba = 0, want = 0;
	long done = 0;

	while (done < operations) {
		uint64_t start = now_ns();

		for (uint32_t i = 0; i < DEPTH; i += batch) {
			uint32_t end = i + batch < DEPTH ? i + batch : DEPTH;

			for (uint32_t j = i; j < end; j++) {
				submit(2, 1, data + (uint64_t)j * io_bytes, io_bytes, lba, 7, &listener);
				lba += 8;
			}
			ring();
		}
		building += now_ns() - start;
		device();
		start = now_ns();
		done += poll_queue();
		polling += now_ns() - start;
	}
	out[0] = (double)building / done;
	out[1] = (double)polling / done;
	for (uint32_t i = 0, at = 0; i < done; i++, at += 8)
		want += at;
	check(listener.told == done && listener.sum == want, "nvme-queue: completions are missing");
}

int main(int argc, char **argv)
{
	size_t size = ENTRIES * (64 + 16) + 4096 + ENTRIES * LIST_ENTRIES * 8;
	int fd = memfd_create("rings", 0);
	char *memory;

	batch = argc > 1 ? atoi(argv[1]) : 1;
	io_bytes = argc > 2 ? atoi(argv[2]) : PAGE;
	data = argc > 3 ? strtoull(argv[3], NULL, 0) : 0x100000000;
	if (fd < 0 || ftruncate(fd, size) < 0)
		fail("memfd");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	sq = (struct command *)memory;
	cq = (struct completion *)(memory + ENTRIES * 64);
	doorbell = (volatile uint32_t *)(memory + ENTRIES * (64 + 16));
	lists = (uint64_t *)(memory + ENTRIES * (64 + 16) + 4096);
	for (free_count = 0; free_count < DEPTH; free_count++)
		free_cids[free_count] = DEPTH - 1 - free_count;
	return serve(run, 2);
}
