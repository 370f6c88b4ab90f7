/* As much of the vfio-user protocol as the programs here take: QEMU's docs/interop/vfio-user.rst. Little-endian. */
#ifndef UACCEL_BENCH_VFIO_USER_H
#define UACCEL_BENCH_VFIO_USER_H

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bench.h"

enum {
	VERSION = 1,
	DMA_MAP = 2,
	DMA_UNMAP = 3,
	GET_INFO = 4,
	GET_REGION_INFO = 5,
	GET_IRQ_INFO = 7,
	SET_IRQS = 8,
	REGION_READ = 9,
	REGION_WRITE = 10,
	DEVICE_RESET = 13,
};
/* What follows a header, at most. */
#define MESSAGE_ROOM 512
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

/* What follows the header of DMA_MAP and of DMA_UNMAP. */
struct dma_map {
	uint32_t argsz, flags; /* 1 readable, 2 writable */
	uint64_t offset, address, size;
};

struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

/* What follows the header of GET_REGION_INFO, and the one capability that is used of it (linux/vfio.h). */
struct region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};

struct sparse_areas {
	uint16_t id, version; /* VFIO_REGION_INFO_CAP_SPARSE_MMAP is 1 */
	uint32_t next, count, reserved;
	uint64_t offset, size; /* of the first */
};

static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";

static inline struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	check(strlen(path) < sizeof(address.sun_path), "vfio-user: the path of the socket is too long");
	strcpy(address.sun_path, path);
	return address;
}

/* What follows a header. Answers its size, or -1 where the peer left. */
static inline int receive_rest(int fd, const struct header *header, void *payload, uint32_t room)
{
	uint32_t size = header->size - sizeof(*header);

	check(header->size >= sizeof(*header) && size <= room, "vfio-user: a message of a wrong size");
	if (size > 0 && recv(fd, payload, size, MSG_WAITALL) != size)
		return -1;
	return size;
}

/* One message: the header, then what follows it. Answers the size of that, or -1 where the peer left. */
static inline int receive(int fd, struct header *header, void *payload, uint32_t room)
{
	if (recv(fd, header, sizeof(*header), MSG_WAITALL) != sizeof(*header))
		return -1;
	return receive_rest(fd, header, payload, room);
}

/* The same; `passed` gets the first descriptor that came along, or -1. Others are closed. */
static inline int receive_fd(int fd, struct header *header, void *payload, uint32_t room, int *passed)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec part = {header, sizeof(*header)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct cmsghdr *rights;

	*passed = -1;
	if (recvmsg(fd, &message, MSG_WAITALL) != sizeof(*header))
		return -1;
	rights = CMSG_FIRSTHDR(&message);
	if (rights != NULL && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
		const int *fds = (const int *)CMSG_DATA(rights);

		*passed = fds[0];
		for (size_t i = 1; i < (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
			close(fds[i]);
	}
	return receive_rest(fd, header, payload, room);
}

/* Puts a message together in `text`, which has room for it. Answers its size. */
static inline uint32_t compose(char *text, struct header header, const void *payload, uint32_t size)
{
	header.size = sizeof(header) + size;
	check(size <= MESSAGE_ROOM, "vfio-user: a message that is too long");
	memcpy(text, &header, sizeof(header));
	memcpy(text + sizeof(header), payload, size);
	return header.size;
}

static inline void transmit(int fd, struct header header, const void *payload, uint32_t size)
{
	char text[sizeof(header) + MESSAGE_ROOM];

	size = compose(text, header, payload, size);
	if (send(fd, text, size, MSG_NOSIGNAL) != size)
		fail("send");
}

/* The same, and a descriptor goes along. */
static inline void transmit_fd(int fd, struct header header, const void *payload, uint32_t size, int passed)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	char text[sizeof(header) + MESSAGE_ROOM];
	struct iovec part = {text, compose(text, header, payload, size)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.header), &passed, sizeof(int));
	if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)part.iov_len)
		fail("sendmsg");
}

#endif
