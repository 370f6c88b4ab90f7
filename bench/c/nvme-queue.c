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

#define PHASE (1u << 16)
#define PAGE 4096u
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

/* What is known of a CID. */
struct slot {
	struct listener *listener;
	uint32_t began;
	int aborting;
};

struct queue {
	uint32_t id, entries, mask, depth;
	struct command *sq;
	struct completion *cq;
	uint64_t *lists;
	volatile uint32_t *sq_doorbell, *cq_doorbell;
	uint32_t sq_tail, sq_head, rung, cq_head, expected;
	struct slot *slots;
	uint16_t *free_cids;
	uint32_t free_count, aborting_count, turn;
	long completions, doorbell_writes;
};

/* The controller. */
struct device {
	uint32_t head, tail, phase;
};

static void point_to(struct queue *q, struct command *command, int cid, uint64_t address, uint32_t size)
{
	uint32_t first = PAGE - (address & (PAGE - 1));
	uint64_t page = (address & ~(uint64_t)(PAGE - 1)) + PAGE, second = 0;

	if (size > first + PAGE) {
		uint64_t *list = q->lists + (size_t)cid * LIST_ENTRIES, *entry = list;

		for (; size > first; size -= PAGE, page += PAGE)
			*entry++ = page;
		second = (uintptr_t)list;
	} else if (size > first) {
		second = page;
	}
	memcpy(&command->words[6], &address, 8);
	memcpy(&command->words[8], &second, 8);
}

static int submit(struct queue *q, uint32_t opcode, uint32_t nsid, uint64_t address, uint32_t size, uint64_t lba,
		  uint32_t cdw12, struct listener *listener)
{
	struct command *command = &q->sq[q->sq_tail];
	int cid;

	if (((q->sq_tail + 1) & q->mask) == q->sq_head || q->free_count == 0)
		return -1;
	cid = q->free_cids[--q->free_count];
	q->slots[cid].listener = listener;
	q->slots[cid].began = q->turn;
	command->words[0] = opcode | (uint32_t)cid << 16;
	command->words[1] = nsid;
	point_to(q, command, cid, address, size);
	memcpy(&command->words[10], &lba, 8);
	command->words[12] = cdw12;
	q->sq_tail = (q->sq_tail + 1) & q->mask;
	return cid;
}

static void ring(struct queue *q)
{
	if (q->sq_tail == q->rung)
		return;
	q->rung = q->sq_tail;
	q->doorbell_writes++;
	__asm__ volatile("" ::: "memory");
	*q->sq_doorbell = q->sq_tail;
}

static void refuse(uint32_t cid)
{
	fprintf(stderr, "nvme-queue: a completion for CID %u, which is not under way\n", cid);
	exit(1);
}

static uint32_t poll_queue(struct queue *q)
{
	uint32_t count = 0;

	while (count < q->depth) {
		struct completion *entry = &q->cq[q->cq_head];
		uint32_t last = entry->last, cid = last & 0xffff, head;
		struct listener *listener;

		if ((last & PHASE) != q->expected)
			break;
		head = entry->queue & 0xffff;
		if (cid >= q->depth || q->slots[cid].listener == NULL || entry->queue >> 16 != q->id)
			refuse(cid);
		if (head > q->mask || ((head - q->sq_head) & q->mask) > ((q->sq_tail - q->sq_head) & q->mask))
			refuse(cid);
		q->sq_head = head;
		q->cq_head = (q->cq_head + 1) & q->mask;
		if (q->cq_head == 0)
			q->expected ^= PHASE;
		count++;
		listener = q->slots[cid].listener;
		q->slots[cid].listener = NULL;
		if (q->slots[cid].aborting) {
			q->slots[cid].aborting = 0;
			q->aborting_count--;
		}
		q->free_cids[q->free_count++] = cid;
		listener->completed(listener, cid, last >> 17, entry->result);
	}
	if (count > 0) {
		q->completions += count;
		*q->cq_doorbell = q->cq_head;
	}
	return count;
}

/* Fetches all commands up to the doorbell, then completes them. */
static void work(struct device *device, struct queue *q)
{
	uint32_t at = device->head;

	device->head = *q->sq_doorbell;
	for (; at != device->head; at = (at + 1) & q->mask) {
		struct completion *entry = &q->cq[device->tail];
		struct command *command = &q->sq[at];

		entry->result = command->words[10];
		entry->queue = device->head | q->id << 16;
		__asm__ volatile("" ::: "memory");
		entry->last = command->words[0] >> 16 | device->phase;
		device->tail = (device->tail + 1) & q->mask;
		if (device->tail == 0)
			device->phase ^= PHASE;
	}
}

static void completed(struct listener *self, uint32_t cid, uint32_t status, uint32_t result)
{
	(void)cid;
	self->told += status == 0;
	self->sum += result;
}

static struct queue *queue;
static struct device *device;
static uint32_t batch, io_bytes;
static uint64_t data;

static int ascending(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return (difference > 0) - (difference < 0);
}

/* Nanoseconds of an operation in the median batch. */
static double median(double *batches, long count)
{
	qsort(batches, count, sizeof(*batches), ascending);
	return batches[count / 2] / queue->depth;
}

/* Answers nanoseconds to build a command with its share of the doorbell, and to poll a completion. */
static void run(long operations, double *out)
{
	struct listener listener = {completed, 0, 0};
	uint32_t lba = 0, want = 0, depth = queue->depth;
	long done = 0, count = 0, batches = operations / depth + 1;
	double *building = calloc(batches, sizeof(double)), *polling = calloc(batches, sizeof(double));

	if (building == NULL || polling == NULL)
		fail("calloc");
	for (; done < operations; count++) {
		uint64_t start = now_ns();

		for (uint32_t i = 0; i < depth; i += batch) {
			uint32_t end = i + batch < depth ? i + batch : depth;

			for (uint32_t j = i; j < end; j++) {
				submit(queue, 2, 1, data + (uint64_t)j * io_bytes, io_bytes, lba, 7, &listener);
				lba += 8;
			}
			ring(queue);
		}
		building[count] = now_ns() - start;
		work(device, queue);
		start = now_ns();
		done += poll_queue(queue);
		polling[count] = now_ns() - start;
	}
	out[0] = median(building, count);
	out[1] = median(polling, count);
	free(building);
	free(polling);
	for (uint32_t i = 0, at = 0; i < done; i++, at += 8)
		want += at;
	check(listener.told == done && listener.sum == want, "nvme-queue: completions are missing");
}

static struct queue *make_queue(uint32_t id, uint32_t entries)
{
	struct queue *q = calloc(1, sizeof(*q));
	size_t size = (size_t)entries * (64 + 16 + LIST_ENTRIES * 8) + 4096;
	int fd = memfd_create("rings", 0);
	char *memory;

	if (q == NULL || fd < 0 || ftruncate(fd, size) < 0)
		fail("memfd");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	q->id = id;
	q->entries = entries;
	q->mask = entries - 1;
	q->depth = entries - 1;
	q->sq_doorbell = (volatile uint32_t *)memory;
	q->cq_doorbell = q->sq_doorbell + 1;
	q->sq = (struct command *)(memory + 4096);
	q->cq = (struct completion *)(memory + 4096 + entries * 64);
	q->lists = (uint64_t *)(memory + 4096 + entries * (64 + 16));
	q->expected = PHASE;
	q->slots = calloc(q->depth, sizeof(*q->slots));
	q->free_cids = calloc(q->depth, sizeof(*q->free_cids));
	if (q->slots == NULL || q->free_cids == NULL)
		fail("calloc");
	for (q->free_count = 0; q->free_count < q->depth; q->free_count++)
		q->free_cids[q->free_count] = q->depth - 1 - q->free_count;
	return q;
}

/* Arguments: entries of a ring, commands for a doorbell, bytes of a command, address of the data. */
int main(int argc, char **argv)
{
	static struct device made = {0, 0, PHASE};

	if (argc != 5)
		return 2;
	queue = make_queue(1, atoi(argv[1]));
	device = &made;
	batch = atoi(argv[2]);
	io_bytes = atoi(argv[3]);
	data = strtoull(argv[4], NULL, 0);
	return serve(run, 2);
}
