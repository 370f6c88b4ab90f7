/* A vfio-user server of one client: a PCI device with 4 KiB of registers in BAR 0, reached by messages. */
#include <errno.h>
#include "vfio-user.h"

#define CONFIG 7
#define REGIONS 9
#define IRQS 5

static uint8_t bar0[4096], config[256];

static uint8_t *memory_of(const struct access *access)
{
	uint8_t *memory = access->region == 0 ? bar0 : access->region == CONFIG ? config : NULL;
	uint64_t size = access->region == 0 ? sizeof(bar0) : sizeof(config);

	if (memory == NULL || access->count > 256 || access->offset > size || access->count > size - access->offset)
		return NULL;
	return memory + access->offset;
}

/* Writes the reply over the request. Answers its size, or a negative errno. */
static int handle(uint16_t command, uint8_t *payload, int size)
{
	uint32_t *words = (uint32_t *)payload;
	struct access *access = (struct access *)payload;
	uint8_t *memory;

	switch (command) {
	case VERSION:
		memcpy(payload + 4, capabilities, sizeof(capabilities));
		return 4 + sizeof(capabilities);
	case GET_INFO:
		words[1] = 2; /* a PCI device */
		words[2] = REGIONS;
		words[3] = IRQS;
		return 16;
	case GET_REGION_INFO:
		if (size < 32 || words[2] >= REGIONS)
			return -EINVAL;
		words[0] = 32;
		words[1] = words[2] == 0 || words[2] == CONFIG ? 3 : 0; /* readable, writable */
		words[3] = 0;
		words[4] = words[2] == 0 ? sizeof(bar0) : words[2] == CONFIG ? sizeof(config) : 0;
		words[5] = words[6] = words[7] = 0;
		return 32;
	case GET_IRQ_INFO:
		words[1] = words[3] = 0;
		return 16;
	case REGION_READ:
		memory = size == sizeof(*access) ? memory_of(access) : NULL;
		if (memory == NULL)
			return -EINVAL;
		memcpy(payload + sizeof(*access), memory, access->count);
		return sizeof(*access) + access->count;
	case REGION_WRITE:
		memory = size >= (int)sizeof(*access) && size - sizeof(*access) == access->count ? memory_of(access) : NULL;
		if (memory == NULL)
			return -EINVAL;
		memcpy(memory, payload + sizeof(*access), access->count);
		return sizeof(*access);
	default:
		return -ENOTSUP;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = address_of(argc > 1 ? argv[1] : "");
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd, size;
	const uint32_t value = ID_VALUE, ids = 0x5c7a1234;
	static uint64_t payload[64];
	struct header header;

	memcpy(bar0, &value, sizeof(value));
	memcpy(config, &ids, sizeof(ids));
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		fail(argv[1]);
	puts("ready");
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		fail("accept");
	while ((size = receive(fd, &header, payload, 256)) >= 0) {
		size = handle(header.command, (uint8_t *)payload, size);
		header.flags = size < 0 ? REPLY | ERROR : REPLY;
		header.error = size < 0 ? -size : 0;
		transmit(fd, header, payload, size < 0 ? 0 : size);
	}
	return 0;
}
