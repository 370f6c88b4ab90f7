/*
 * Reads at random from an NVMe controller, as many under way as the depth says: what `src/nvme-reader.ts` does through the driver, step by
 * step. A transport comes first: it defines what is declared below, and calls `serve_reads`.
 */
#ifndef UACCEL_BENCH_NVME_READS_H
#define UACCEL_BENCH_NVME_READS_H

#include <string.h>
#include "bench.h"
#include "nvme.h"

#define ENTRIES 256
#define DEPTH_LIMIT (ENTRIES - 1)
#define ADMIN_ENTRIES 32
#define READ_BYTES 4096
/* A depth has as many times the reads as it has under way, up to so many. */
#define MOST_TIMES 8
/* So long reads are made before any is measured, as the other side has to. */
#define WARM_UP_NS 200000000u
#define WARM_UP_READS 1000
/* Reads are within so many places at most, as the other side's. */
#define MAX_PLACES (1u << 24)
/* A reading of the clock is timed so often: the shortest counts. */
#define CALIBRATIONS 1000

/* Memory that the device reaches, from MEMORY_IOVA on, zeroed. */
#define MEMORY_BYTES (2u << 20)
#define MEMORY_IOVA 0x200000u
enum { ADMIN_SQ = 0x0, ADMIN_CQ = 0x1000, DATA = 0x2000, SQ = 0x4000, CQ = 0x8000, BUFFERS = 0x10000 };

/* The transport's: it brings the device to where its registers and doorbells answer, and lets go of it. */
static char *memory;
static volatile uint32_t *doorbells;
static void open_device(void);
static void close_device(void);
static uint32_t read_register(uint32_t offset);
static void write_register(uint32_t offset, uint32_t value);

/* What of a command is kept until it ends. */
typedef void (*completed_fn)(uint32_t cid, uint32_t status);

static struct queue {
	uint32_t id, entries, tail, rung, head, phase, consumed, free_count;
	volatile struct command *commands;
	volatile struct completion *completions;
	completed_fn listeners[ENTRIES];
	uint32_t free_cids[ENTRIES];
} admin, io;

static void make_queue(struct queue *queue, uint32_t id, uint32_t entries, uint32_t sq, uint32_t cq)
{
	memset(queue, 0, sizeof(*queue));
	queue->id = id;
	queue->entries = entries;
	queue->phase = PHASE;
	queue->commands = (struct command *)(memory + sq);
	queue->completions = (struct completion *)(memory + cq);
	memset(memory + sq, 0, entries * sizeof(struct command));
	memset(memory + cq, 0, entries * sizeof(struct completion));
	for (uint32_t i = 0; i < entries - 1; i++)
		queue->free_cids[queue->free_count++] = entries - 2 - i;
}

/* Puts a command into the ring, for `ring`. Answers its CID. A page of data needs no second PRP entry. */
static inline uint32_t submit(struct queue *queue, uint32_t opcode, uint32_t nsid, uint64_t data, uint32_t cdw10, uint32_t cdw11, uint32_t cdw12,
			      completed_fn listener)
{
	volatile struct command *command = &queue->commands[queue->tail];
	uint32_t cid, next = (queue->tail + 1) & (queue->entries - 1);

	check(queue->free_count > 0 && next != queue->consumed, "nvme: the queue is full");
	cid = queue->free_cids[--queue->free_count];
	queue->listeners[cid] = listener;
	command->words[0] = opcode | cid << 16;
	command->words[1] = nsid;
	command->words[6] = data;
	command->words[7] = data >> 32;
	command->words[8] = 0;
	command->words[9] = 0;
	command->words[10] = cdw10;
	command->words[11] = cdw11;
	command->words[12] = cdw12;
	queue->tail = next;
	return cid;
}

static inline void ring(struct queue *queue)
{
	if (queue->tail == queue->rung)
		return;
	queue->rung = queue->tail;
	doorbells[2 * queue->id] = queue->tail;
}

/* True where a completion is there, `ahead` entries after the next. */
static inline int peek_ahead(const struct queue *queue, uint32_t ahead)
{
	uint32_t at = queue->head + ahead;
	uint32_t phase = at >= queue->entries ? queue->phase ^ PHASE : queue->phase;

	return (queue->completions[at & (queue->entries - 1)].last & PHASE) == phase;
}

/* Takes the completions that are there, and tells whose they are. Answers how many there were. */
static inline uint32_t poll_queue(struct queue *queue)
{
	uint32_t count = 0;

	while (count < queue->entries - 1) {
		volatile struct completion *entry = &queue->completions[queue->head];
		uint32_t last = entry->last, cid = last & 0xffff, head = entry->head;
		completed_fn listener;

		if ((last & PHASE) != queue->phase)
			break;
		check(cid < queue->entries - 1 && queue->listeners[cid] != NULL && head >> 16 == queue->id, "nvme: a completion of nothing");
		head &= 0xffff;
		check(((head - queue->consumed) & (queue->entries - 1)) <= ((queue->tail - queue->consumed) & (queue->entries - 1)),
		      "nvme: a head beyond what was written");
		queue->consumed = head;
		queue->head = (queue->head + 1) & (queue->entries - 1);
		if (queue->head == 0)
			queue->phase ^= PHASE;
		count++;
		listener = queue->listeners[cid];
		queue->listeners[cid] = NULL;
		queue->free_cids[queue->free_count++] = cid;
		listener(cid, last >> 17);
	}
	if (count > 0)
		doorbells[2 * queue->id + 1] = queue->head;
	return count;
}

/* Looks for the completion that is `ahead` of the next, so that a batch can grow, no more often than `limit`. */
static inline void wait_ahead(const struct queue *queue, uint32_t ahead, uint64_t limit)
{
	for (uint64_t looks = 0; looks < limit && !peek_ahead(queue, ahead); looks++)
		;
}

static uint32_t admin_status;

static void admin_completed(uint32_t cid, uint32_t status)
{
	(void)cid;
	admin_status = status;
}

static void run_admin(uint32_t opcode, uint32_t nsid, uint32_t offset, uint32_t cdw10, uint32_t cdw11)
{
	uint64_t deadline = now_ns() + 5000000000u;

	submit(&admin, opcode, nsid, MEMORY_IOVA + offset, cdw10, cdw11, 0, admin_completed);
	ring(&admin);
	while (poll_queue(&admin) == 0)
		check(now_ns() < deadline, "nvme: an admin command does not end");
	check(admin_status == 0, "nvme: an admin command failed");
}

static void await_status(uint32_t mask, uint32_t wanted)
{
	uint64_t deadline = now_ns() + 30000000000u;

	while ((read_register(CSTS) & mask) != wanted)
		check(now_ns() < deadline, "nvme: the controller does not get ready, or to an end");
}

static uint32_t blocks, mask;

/* Brings the controller up (7.6.1): reset, admin queue, namespace 1, one I/O queue that raises no interrupt. */
static void start(void)
{
	uint64_t total;
	uint8_t *page;

	open_device();
	page = (uint8_t *)memory + DATA;
	write_register(CC, 0);
	await_status(CSTS_READY, 0);
	make_queue(&admin, 0, ADMIN_ENTRIES, ADMIN_SQ, ADMIN_CQ);
	make_queue(&io, 1, ENTRIES, SQ, CQ);
	write_register(AQA, (ADMIN_ENTRIES - 1) | (ADMIN_ENTRIES - 1) << 16);
	write_register(ASQ, MEMORY_IOVA + ADMIN_SQ);
	write_register(ASQ + 4, 0);
	write_register(ACQ, MEMORY_IOVA + ADMIN_CQ);
	write_register(ACQ + 4, 0);
	write_register(CC, CC_ENABLE | CC_ENTRY_SIZES);
	await_status(CSTS_READY, CSTS_READY);
	check((read_register(CAP) & 0xffff) >= ENTRIES - 1, "nvme: queues of 256 entries are wanted");
	run_admin(IDENTIFY, 1, DATA, 0, 0);
	memcpy(&total, page, sizeof(total));
	blocks = READ_BYTES >> page[128 + 4 * (page[26] & 0xf) + 2];
	check(blocks > 0 && total >= blocks, "nvme: namespace 1 is wanted, with blocks of 4 KiB at most");
	total /= blocks;
	for (mask = 1; mask < MAX_PLACES && 2ull * mask <= total;)
		mask *= 2;
	mask--;
	run_admin(SET_FEATURES, 0, 0, NUMBER_OF_QUEUES, 0);
	run_admin(CREATE_CQ, 0, CQ, 1 | (ENTRIES - 1) << 16, 1);
	run_admin(CREATE_SQ, 0, SQ, 1 | (ENTRIES - 1) << 16, 1 | 1 << 16);
}

static void stop(void)
{
	write_register(CC, CC_ENABLE | CC_ENTRY_SIZES | CC_SHUTDOWN_NORMAL);
	await_status(3u << 2, CSTS_SHUTDOWN_COMPLETE);
	write_register(CC, 0);
	await_status(CSTS_READY, 0);
	close_device();
}

/* How long to wait for completions: for so many, but not for more than so many looks. */
static long look_ahead;
static uint64_t look_limit;

/* The reads. Where each is timed: when those of a poll began that ended, and which were submitted since. */
static long left, done, failures;
static uint32_t random_state = 0x2545f491, buffer_of[ENTRIES];
static double began[ENTRIES], ended[ENTRIES], *latencies;
static uint32_t fresh[ENTRIES], ended_count, fresh_count;
static long latency_count;
static int stamped;
static double clock_time;

static void read_completed(uint32_t cid, uint32_t status);

static inline void submit_read(uint32_t buffer)
{
	uint32_t cid;

	left--;
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	cid = submit(&io, READ, 1, MEMORY_IOVA + BUFFERS + buffer * READ_BYTES, (random_state & mask) * blocks, 0, blocks - 1, read_completed);
	buffer_of[cid] = buffer;
	if (stamped)
		fresh[fresh_count++] = cid;
}

static void read_completed(uint32_t cid, uint32_t status)
{
	done++;
	if (status != 0)
		failures++;
	if (stamped)
		ended[ended_count++] = began[cid];
	if (left > 0)
		submit_read(buffer_of[cid]);
}

/* The end of the reads that the last poll took, and the beginning of those that were submitted meanwhile and rung for. Answers that time. */
static double stamp(void)
{
	double now = now_ns();

	for (uint32_t i = 0; i < ended_count; i++)
		latencies[latency_count++] = now - ended[i];
	for (uint32_t i = 0; i < fresh_count; i++)
		began[fresh[i]] = now;
	ended_count = fresh_count = 0;
	return now;
}

/*
 * Runs so many reads. Answers the nanoseconds that they took; with a reading of the clock before and after each turn, those of the turns alone,
 * without what it waited. It waits for half of what is under way, `look_ahead` at most: the controller is left with something to do.
 */
static double run_reads(long operations, uint32_t depth, int timed)
{
	double start = now_ns(), busy = 0, from = 0;
	long half;

	stamped = timed;
	latency_count = 0;
	left = operations;
	done = 0;
	for (uint32_t i = 0; i < depth && left > 0; i++)
		submit_read(i);
	ring(&io);
	if (stamped)
		stamp();
	while (done < operations) {
		half = (operations - left - done + 1) >> 1;
		wait_ahead(&io, (half < look_ahead ? half : look_ahead) - 1, look_limit);
		if (stamped)
			from = now_ns();
		if (poll_queue(&io) == 0)
			continue;
		ring(&io);
		if (stamped)
			busy += stamp() - from - clock_time;
	}
	check(failures == 0, "nvme: reads failed");
	return stamped ? busy : now_ns() - start;
}

static int compare(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return difference < 0 ? -1 : difference > 0;
}

/* Nanoseconds from one reading of the clock to the next. */
static double time_of_clock(void)
{
	double least = 1e9;

	for (int i = 0; i < CALIBRATIONS; i++) {
		uint64_t start = now_ns();
		double spent = now_ns() - start;

		if (spent < least)
			least = spent;
	}
	return least;
}

/* Thousands of reads a second; host nanoseconds a read, without waiting; percentiles of the latency in us: 50, 99, 99.99, and that by 50. */
#define FIGURES 6

static int depth_count;
static uint32_t depths[MAX_RESULTS / FIGURES];

static void measure_depth(long base, uint32_t depth, double *out)
{
	long operations = base * (depth < MOST_TIMES ? depth : MOST_TIMES);
	long warm_up = (operations + 7) / 8;

	run_reads(warm_up, depth, 1);
	run_reads(warm_up, depth, 0);
	out[0] = operations / run_reads(operations, depth, 0) * 1e6;
	clock_time = time_of_clock();
	out[1] = run_reads(operations, depth, 1) / operations;
	qsort(latencies, operations, sizeof(double), compare);
	out[2] = latencies[(long)((operations - 1) * 0.5)] / 1000;
	out[3] = latencies[(long)((operations - 1) * 0.99)] / 1000;
	out[4] = latencies[(long)((operations - 1) * 0.9999)] / 1000;
	out[5] = out[4] / out[2];
}

static void session(long operations, double *out)
{
	size_t size = MOST_TIMES * operations * sizeof(double);

	latencies = malloc(size);
	check(latencies != NULL, "nvme: no memory");
	memset(latencies, 1, size); /* no page is to be faulted in later */
	start();
	for (uint64_t end = now_ns() + WARM_UP_NS; now_ns() < end;) {
		for (int i = 0; i < depth_count; i++) {
			run_reads(operations < WARM_UP_READS ? operations : WARM_UP_READS, depths[i], 1);
			run_reads(WARM_UP_READS, depths[i], 0);
		}
	}
	for (int i = 0; i < depth_count; i++)
		measure_depth(operations, depths[i], out + i * FIGURES);
	stop();
	free(latencies);
}

/* Arguments from the third on: LOOK_AHEAD LOOK_LIMIT DEPTH... */
static int serve_reads(int argc, char **argv)
{
	check(argc > 4 && argc - 4 <= MAX_RESULTS / FIGURES, "usage: PLACE LOOK_AHEAD LOOK_LIMIT DEPTH...");
	look_ahead = atoi(argv[2]);
	look_limit = atoll(argv[3]);
	for (depth_count = 0; depth_count < argc - 4; depth_count++) {
		depths[depth_count] = atoi(argv[4 + depth_count]);
		check(depths[depth_count] > 0 && depths[depth_count] <= DEPTH_LIMIT, "nvme: a depth from 1 to 255 is wanted");
	}
	check(look_ahead > 0 && look_ahead <= ENTRIES, "nvme: a look-ahead from 1 to 256 is wanted");
	return serve(session, depth_count * FIGURES);
}

#endif
