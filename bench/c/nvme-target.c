/*
 * A null NVMe controller behind vfio-user, for one client at a time: its doorbells are a page of shared memory that a busy loop reads.
 * An I/O command is checked (namespace, blocks, the memory that it names) and succeeds: no data moves. Each takes PACE_NS, or no longer
 * than it does where that is 0. Arguments: SOCKET [PACE_NS].
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include "nvme.h"
#include "vfio-user.h"

#define BAR_BYTES 0x2000
#define CONFIG 7
#define REGIONS 9
#define IRQS 5
#define QUEUES 5
#define MAX_ENTRIES 256
#define MAPPINGS 64
/* Commands that are completed together at most: the sooner the client sees the first, the sooner it sends more. */
#define BATCH 32
/* Turns without work after which the socket is looked at: a call takes as long as an I/O. */
#define IDLE_TURNS 4096
#define BLOCKS (1ull << 28)
#define BLOCK_LOG2 9

/* Status fields (4.6.1), without the phase. 0x4000 is "do not retry". */
enum {
	SUCCESS = 0,
	INVALID_OPCODE = 0x4001,
	INVALID_FIELD = 0x4002,
	DATA_TRANSFER_ERROR = 0x4004,
	INVALID_NAMESPACE = 0x400b,
	OUT_OF_RANGE = 0x4080,
	INVALID_QUEUE = 0x4101,
};

static struct mapping {
	uint64_t iova, size;
	char *memory;
} mappings[MAPPINGS];
static int mapping_count;

static struct queue {
	const struct command *commands;
	volatile struct completion *completions;
	uint32_t commands_count, completions_count;
	uint32_t head, tail, phase; /* of the commands, of the completions */
} queues[QUEUES];

static uint8_t config[256], registers[PAGE];
static volatile uint32_t *doorbells;
static int bar_fd;
/* The time that a command takes, and when that of the last is over: 0 where none waited since. */
static uint64_t pace_ns, busy_until;

static uint32_t *reg(int offset)
{
	return (uint32_t *)(registers + offset);
}

static uint64_t reg64(int offset)
{
	return reg(offset)[0] | (uint64_t)reg(offset)[1] << 32;
}

/* The client's memory, or NULL where not all of it is mapped in one piece. */
static void *memory_at(uint64_t iova, uint64_t size)
{
	for (struct mapping *mapping = mappings; mapping < mappings + mapping_count; mapping++)
		if (iova >= mapping->iova && size <= mapping->size && iova - mapping->iova <= mapping->size - size)
			return mapping->memory + (iova - mapping->iova);
	return NULL;
}

static void disable(void)
{
	memset(queues, 0, sizeof(queues));
	memset((void *)doorbells, 0, PAGE);
	*reg(CSTS) &= ~(CSTS_READY | CSTS_FATAL);
}

static void enable(void)
{
	struct queue *admin = &queues[0];

	admin->commands_count = (*reg(AQA) & 0xfff) + 1;
	admin->completions_count = (*reg(AQA) >> 16 & 0xfff) + 1;
	admin->commands = memory_at(reg64(ASQ), admin->commands_count * sizeof(struct command));
	admin->completions = memory_at(reg64(ACQ), admin->completions_count * sizeof(struct completion));
	admin->phase = PHASE;
	*reg(CSTS) = admin->commands != NULL && admin->completions != NULL ? CSTS_READY : CSTS_READY | CSTS_FATAL;
}

static void write_register(uint32_t offset, const void *from, uint32_t count)
{
	uint32_t before = *reg(CC);

	memcpy(registers + offset, from, count);
	if (!(before & CC_ENABLE) && *reg(CC) & CC_ENABLE)
		enable();
	if (before & CC_ENABLE && !(*reg(CC) & CC_ENABLE))
		disable();
	*reg(CSTS) = (*reg(CSTS) & ~CSTS_SHUTDOWN_COMPLETE) | (*reg(CC) & CC_SHUTDOWN ? CSTS_SHUTDOWN_COMPLETE : 0);
}

static void complete(struct queue *queue, uint32_t id, uint32_t cid, uint32_t status, uint32_t result)
{
	volatile struct completion *entry = &queue->completions[queue->tail];

	entry->result = result;
	entry->head = queue->head | id << 16;
	entry->last = cid | queue->phase | status << 17; /* last: the phase is what makes it new */
	if (++queue->tail == queue->completions_count) {
		queue->tail = 0;
		queue->phase ^= PHASE;
	}
}

static uint32_t identify(uint32_t cns, uint32_t nsid, uint8_t *page)
{
	const uint32_t version = 0x00010400, namespaces = 1;
	const uint64_t blocks[3] = {BLOCKS, BLOCKS, BLOCKS}; /* size, capacity, utilization */

	memset(page, 0, PAGE);
	if (cns == 0 && nsid == 1) {
		memcpy(page, blocks, sizeof(blocks));
		page[130] = BLOCK_LOG2; /* of LBA format 0 */
	} else if (cns == 1) {
		memset(page + 4, ' ', 68);
		memcpy(page + 4, "0", 1);
		memcpy(page + 24, "null", 4);
		page[77] = 5; /* MDTS: 2^5 pages */
		memcpy(page + 80, &version, 4);
		page[512] = 0x66;
		page[513] = 0x44;
		memcpy(page + 516, &namespaces, 4);
	} else if (cns == 2 && nsid == 0) {
		page[0] = 1;
	} else if (cns > 2) {
		return INVALID_FIELD;
	}
	return SUCCESS;
}

static uint32_t create(const uint32_t *words, int submission)
{
	uint32_t id = words[10] & 0xffff, count = (words[10] >> 16) + 1;
	void *memory = memory_at(words[6] | (uint64_t)words[7] << 32, count * (submission ? sizeof(struct command) : sizeof(struct completion)));
	struct queue *queue = &queues[id % QUEUES];

	if (id == 0 || id >= QUEUES || count > MAX_ENTRIES || (submission && words[11] >> 16 != id))
		return INVALID_QUEUE; /* commands complete to the queue of their own number */
	if (memory == NULL)
		return INVALID_FIELD;
	if (submission) {
		queue->commands = memory;
		queue->commands_count = count;
		queue->head = 0;
	} else {
		queue->completions = memory;
		queue->completions_count = count;
		queue->tail = 0;
		queue->phase = PHASE;
	}
	return SUCCESS;
}

static void run_admin(const uint32_t *words)
{
	uint32_t opcode = words[0] & 0xff, status = SUCCESS, result = 0;
	uint8_t *page = memory_at(words[6] | (uint64_t)words[7] << 32, PAGE);

	switch (opcode) {
	case IDENTIFY:
		status = page == NULL ? INVALID_FIELD : identify(words[10] & 0xff, words[1], page);
		break;
	case GET_LOG_PAGE:
		if (page != NULL)
			memset(page, 0, PAGE);
		break;
	case SET_FEATURES:
		result = (words[10] & 0xff) == NUMBER_OF_QUEUES ? (QUEUES - 2) | (QUEUES - 2) << 16 : 0;
		break;
	case CREATE_CQ:
	case CREATE_SQ:
		status = create(words, opcode == CREATE_SQ);
		break;
	case DELETE_CQ:
	case DELETE_SQ:
		if ((words[10] & 0xffff) - 1 < QUEUES - 1)
			queues[words[10] & 0xffff].commands = NULL;
		break;
	case ABORT:
		result = 1; /* not found: all have completed */
		break;
	case ASYNC_EVENT:
		return; /* nothing ever happens */
	default:
		status = INVALID_OPCODE;
	}
	complete(&queues[0], 0, words[0] >> 16, status, result);
}

/* What an I/O command's completion says. Reads, writes and the like: namespace, first block, count of blocks, memory. */
static uint32_t status_of(const struct command *command)
{
	const uint32_t *words = command->words;
	uint64_t first = words[10] | (uint64_t)words[11] << 32, count = (words[12] & 0xffff) + 1;
	uint64_t data = words[6] | (uint64_t)words[7] << 32, size = PAGE - data % PAGE;

	if ((words[0] & 0xff) > READ && (words[0] & 0xff) != COMPARE)
		return INVALID_OPCODE;
	if (words[1] != 1)
		return INVALID_NAMESPACE;
	if ((words[0] & 0xff) == FLUSH)
		return SUCCESS;
	if (first >= BLOCKS || count > BLOCKS - first)
		return OUT_OF_RANGE;
	if (memory_at(data, count << BLOCK_LOG2 < size ? count << BLOCK_LOG2 : size) == NULL)
		return DATA_TRANSFER_ERROR;
	/* PRP2 names the second page, or a list of the others */
	if (count << BLOCK_LOG2 > size && memory_at(words[8] | (uint64_t)words[9] << 32, 8) == NULL)
		return DATA_TRANSFER_ERROR;
	return SUCCESS;
}

/*
 * Works on a command as long as it is to take. One that waited begins when the one before it ends, so that fetching it costs nothing; of what a
 * pause of this process took no more than a batch is made up for.
 */
static void work(void)
{
	uint64_t now = now_ns(), earliest = now - BATCH * pace_ns;

	if (busy_until == 0)
		busy_until = now;
	busy_until = (busy_until > earliest ? busy_until : earliest) + pace_ns;
	while (now < busy_until)
		now = now_ns();
}

/* Takes commands as far as their completions have room. Answers how many there were. */
static uint32_t turn(uint32_t id)
{
	struct queue *queue = &queues[id];
	uint32_t tail = doorbells[2 * id], count, room;
	uint32_t cids[BATCH], statuses[BATCH];

	if (tail == queue->head || queue->commands == NULL || queue->completions == NULL)
		return 0;
	if (tail >= queue->commands_count || doorbells[2 * id + 1] >= queue->completions_count) {
		*reg(CSTS) |= CSTS_FATAL;
		return 0;
	}
	room = (doorbells[2 * id + 1] + queue->completions_count - queue->tail - 1) % queue->completions_count;
	/* All are read before one is answered: the processor fetches them at once, and the client's polling disturbs only once. */
	for (count = 0; count < BATCH && count < room && queue->head != tail; count++) {
		const struct command command = queue->commands[queue->head];

		if (++queue->head == queue->commands_count)
			queue->head = 0;
		cids[count] = command.words[0] >> 16;
		if (id == 0)
			run_admin(command.words);
		else
			statuses[count] = status_of(&command);
	}
	for (uint32_t i = 0; id > 0 && i < count; i++) {
		if (pace_ns > 0)
			work();
		complete(queue, id, cids[i], statuses[i], 0);
	}
	return count;
}

static void unmap(struct mapping *mapping)
{
	munmap(mapping->memory, mapping->size);
	*mapping = mappings[--mapping_count];
}

static int map(const struct dma_map *request, int fd)
{
	struct mapping *mapping = &mappings[mapping_count];

	if (fd < 0)
		return -EINVAL; /* that memory would have to be asked for by message */
	if (mapping_count == MAPPINGS)
		return -ENOSPC;
	mapping->memory = mmap(NULL, request->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, request->offset);
	if (mapping->memory == MAP_FAILED)
		return -errno;
	mapping->iova = request->address;
	mapping->size = request->size;
	mapping_count++;
	return 0;
}

static int access_region(uint16_t command, const struct access *access, uint8_t *data)
{
	uint32_t offset = access->offset, end = offset + access->count;
	uint8_t *memory = access->region == CONFIG ? config : registers;

	if (access->count > 256 || access->offset > PAGE || (access->region != CONFIG && access->region != 0) ||
	    end > (access->region == CONFIG ? sizeof(config) : PAGE))
		return -EINVAL;
	if (command == REGION_READ) {
		memcpy(data, memory + offset, access->count);
		return sizeof(*access) + access->count;
	}
	/* what is written elsewhere has no effect: the address of BAR 0, read-only registers */
	if (access->region == CONFIG && offset == 4)
		memcpy(config + offset, data, access->count);
	else if (access->region == 0 && ((offset >= CC && end <= CC + 4) || (offset >= AQA && end <= ACQ + 8)))
		write_register(offset, data, access->count);
	return sizeof(*access);
}

/* Writes the reply over the request. Answers its size, or a negative errno. */
static int handle(uint16_t command, uint8_t *payload, int size, int passed)
{
	uint32_t *words = (uint32_t *)payload;
	struct region_info *info = (struct region_info *)payload;
	struct access *access = (struct access *)payload;
	struct dma_unmap *going = (struct dma_unmap *)payload;

	switch (command) {
	case VERSION:
		memcpy(payload + 4, capabilities, sizeof(capabilities));
		return 4 + sizeof(capabilities);
	case DMA_MAP:
		return size == sizeof(struct dma_map) ? map((struct dma_map *)payload, passed) : -EINVAL;
	case DMA_UNMAP:
		for (int i = mapping_count - 1; i >= 0; i--)
			if (mappings[i].iova == going->address && mappings[i].size == going->size)
				unmap(&mappings[i]);
		return sizeof(*going);
	case GET_INFO:
		words[1] = 1 | 2; /* can be reset, a PCI device */
		words[2] = REGIONS;
		words[3] = IRQS;
		return 16;
	case GET_REGION_INFO: {
		const struct sparse_areas areas = {.id = 1, .version = 1, .count = 1, .offset = DOORBELLS, .size = PAGE};
		int all = sizeof(*info) + sizeof(areas), room = words[0];

		if (size < (int)sizeof(*info) || info->index >= REGIONS)
			return -EINVAL;
		info->size = info->index == 0 ? BAR_BYTES : info->index == CONFIG ? sizeof(config) : 0;
		info->flags = info->size == 0 ? 0 : info->index == 0 ? 1 | 2 | 4 | 8 : 1 | 2; /* read, write, mmap, capabilities */
		info->argsz = info->index == 0 ? all : sizeof(*info);
		info->cap_offset = info->index == 0 && room >= all ? sizeof(*info) : 0;
		info->offset = 0;
		if (info->cap_offset == 0)
			return sizeof(*info);
		memcpy(info + 1, &areas, sizeof(areas));
		return all;
	}
	case GET_IRQ_INFO:
		words[1] = words[3] = 0;
		return 16;
	case REGION_READ:
	case REGION_WRITE:
		if (size < (int)sizeof(*access) || (command == REGION_WRITE && size - sizeof(*access) != access->count))
			return -EINVAL;
		return access_region(command, access, payload + sizeof(*access));
	case DEVICE_RESET:
		memset(registers + CC, 0, PAGE - CC);
		disable();
		return 0;
	default:
		return -ENOTSUP;
	}
}

/* Answers one message. False where the client left. */
static int answer(int fd)
{
	static uint64_t payload[MESSAGE_ROOM / 8];
	struct header header;
	int passed, size = receive_fd(fd, &header, payload, sizeof(payload), &passed);
	struct region_info *info = (struct region_info *)payload;

	if (size < 0)
		return 0;
	size = handle(header.command, (uint8_t *)payload, size, passed);
	if (passed >= 0)
		close(passed);
	header.flags = size < 0 ? REPLY | ERROR : REPLY;
	header.error = size < 0 ? -size : 0;
	if (header.command == GET_REGION_INFO && size > (int)sizeof(*info))
		transmit_fd(fd, header, payload, size, bar_fd);
	else
		transmit(fd, header, payload, size < 0 ? 0 : size);
	return 1;
}

static void serve_client(int fd)
{
	struct pollfd socket = {.fd = fd, .events = POLLIN};

	for (uint32_t idle = IDLE_TURNS;; idle++) {
		uint32_t count = 0;

		for (uint32_t id = 0; id < QUEUES; id++)
			count += turn(id);
		if (count > 0) {
			idle = 0;
			continue;
		}
		busy_until = 0;
		if (idle < IDLE_TURNS)
			continue;
		idle = 0;
		if (poll(&socket, 1, *reg(CSTS) & CSTS_READY ? 0 : -1) > 0 && !answer(fd))
			break;
	}
	close(fd);
	disable();
	busy_until = 0;
	memset(registers + CC, 0, PAGE - CC);
	while (mapping_count > 0)
		unmap(&mappings[0]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = address_of(argc > 1 ? argv[1] : "");
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	/* ids, command and status, class 01 08 02 (mass storage, NVMe); BAR 0 in memory, of 64 bits */
	const uint32_t header[] = {0x00105c7a, 0, 0x01080200, 0, 4};
	/* CAP: entries of a queue from 0, contiguous queues, 500 ms to get ready; NVM command set */
	const uint32_t cap[] = {(MAX_ENTRIES - 1) | 1 << 16 | 1 << 24, 1 << 5}, version = 0x00010400;

	pace_ns = argc > 2 ? atoi(argv[2]) : 0;
	memcpy(config, header, sizeof(header));
	memcpy(reg(CAP), cap, sizeof(cap));
	memcpy(reg(VS), &version, sizeof(version));
	bar_fd = memfd_create("nvme", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (bar_fd < 0 || ftruncate(bar_fd, BAR_BYTES) < 0 || fcntl(bar_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		fail("memfd");
	doorbells = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, bar_fd, DOORBELLS);
	if (doorbells == MAP_FAILED)
		fail("mmap");
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		fail(argv[1]);
	puts("ready");
	fflush(stdout);
	while ((fd = accept(listener, NULL, NULL)) >= 0)
		serve_client(fd);
	fail("accept");
}
