/* Reads from an NVMe controller behind vfio-user whose doorbells can be mapped. Arguments: SOCKET LOOK_AHEAD LOOK_LIMIT DEPTH... */
#define _GNU_SOURCE
#include <sys/mman.h>
#include "nvme-reads.h"
#include "vfio-user.h"

#define CONFIG 7

static const char *path;
static int fd;
static uint16_t id;

/* `passed` is sent along unless it is -1, or gets the descriptor of the reply. */
static void request(uint16_t command, const void *payload, uint32_t size, void *reply, uint32_t room, int *passed)
{
	struct header header = {.id = ++id, .command = command};
	int received;

	if (passed != NULL && *passed >= 0)
		transmit_fd(fd, header, payload, size, *passed);
	else
		transmit(fd, header, payload, size);
	if (passed != NULL)
		received = receive_fd(fd, &header, reply, room, passed);
	else
		received = receive(fd, &header, reply, room);
	check(received >= 0 && header.id == id && header.command == command && header.flags == REPLY, "vfio-user: the server refused, or left");
}

static void write_region(uint32_t region, uint32_t offset, uint32_t value, uint32_t count)
{
	struct {
		struct access access;
		uint32_t value;
	} message = {{.region = region, .offset = offset, .count = count}, value};
	char reply[512];

	request(REGION_WRITE, &message, sizeof(message.access) + count, reply, sizeof(reply), NULL);
}

static void write_register(uint32_t offset, uint32_t value)
{
	write_region(0, offset, value, 4);
}

static uint32_t read_register(uint32_t offset)
{
	const struct access access = {.region = 0, .offset = offset, .count = 4};
	struct {
		struct access access;
		uint32_t value;
	} reply;

	request(REGION_READ, &access, sizeof(access), &reply, sizeof(reply), NULL);
	return reply.value;
}

static void map_doorbells(void)
{
	struct {
		struct region_info info;
		char capabilities[256];
	} region = {{.argsz = sizeof(region), .index = 0}};
	int bar = -1;

	request(GET_REGION_INFO, &region, sizeof(region), &region, sizeof(region), &bar);
	check(bar >= 0 && region.info.size >= DOORBELLS + PAGE, "nvme: the server offers no doorbells to map");
	doorbells = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, bar, region.info.offset + DOORBELLS);
	if (doorbells == MAP_FAILED)
		fail("mmap of the doorbells");
	close(bar);
}

static void map_memory(void)
{
	struct dma_map message = {.argsz = sizeof(message), .flags = 3, .address = MEMORY_IOVA, .size = MEMORY_BYTES};
	int file = memfd_create("memory", MFD_CLOEXEC), passed = file;
	char reply[64];

	if (file < 0 || ftruncate(file, MEMORY_BYTES) < 0)
		fail("memfd");
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	request(DMA_MAP, &message, sizeof(message), reply, sizeof(reply), &passed);
	close(file);
}

static void open_device(void)
{
	struct sockaddr_un address = address_of(path);
	char offer[4 + sizeof(capabilities)] = {0}, answer[512];

	offer[2] = 1; /* version 0.1 */
	memcpy(offer + 4, capabilities, sizeof(capabilities));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(path);
	request(VERSION, offer, sizeof(offer), answer, sizeof(answer), NULL);
	write_region(CONFIG, 4, 6, 2); /* memory decoding and bus mastering, in the command register (PCI 3.0, 6.2.2) */
	map_doorbells();
	map_memory();
}

static void close_device(void)
{
	munmap((void *)doorbells, PAGE);
	munmap(memory, MEMORY_BYTES);
	close(fd);
}

int main(int argc, char **argv)
{
	path = argc > 1 ? argv[1] : "";
	return serve_reads(argc, argv);
}
