/* As much of the vfio-user protocol as a region read takes: QEMU's docs/interop/vfio-user.rst. Little-endian. */
#ifndef UACCEL_BENCH_VFIO_USER_H
#define UACCEL_BENCH_VFIO_USER_H

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bench.h"

enum {
	VERSION = 1,
	GET_INFO = 4,
	GET_REGION_INFO = 5,
	GET_IRQ_INFO = 7,
	REGION_READ = 9,
	REGION_WRITE = 10,
};
enum { REPLY = 1, ERROR = 0x20 };

/* What both servers' BAR 0 reads at offset 0. */
#define ID_VALUE 0x92345678u

struct header {
	uint16_t id, command;
	uint32_t size, flags, error;
};

struct access {
	uint64_t offset;
	uint32_t region, count;
};

static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";

static inline struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	check(strlen(path) < sizeof(address.sun_path), "vfio-user: the path of the socket is too long");
	strcpy(address.sun_path, path);
	return address;
}

/* One message: the header, then what follows it. Answers the size of that, or -1 where the peer left. */
static inline int receive(int fd, struct header *header, void *payload, uint32_t room)
{
	uint32_t size;

	if (recv(fd, header, sizeof(*header), MSG_WAITALL) != sizeof(*header))
		return -1;
	size = header->size - sizeof(*header);
	check(header->size >= sizeof(*header) && size <= room, "vfio-user: a message of a wrong size");
	if (size > 0 && recv(fd, payload, size, MSG_WAITALL) != size)
		return -1;
	return size;
}

static inline void transmit(int fd, struct header header, const void *payload, uint32_t size)
{
	char message[512];

	check(size <= sizeof(message) - sizeof(header), "vfio-user: a message that is too long");
	header.size = sizeof(header) + size;
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), payload, size);
	if (send(fd, message, header.size, MSG_NOSIGNAL) != header.size)
		fail("send");
}

#endif
