/* What the two ends of a node's stand-in share: messages of the sizes that a node's have, and descriptors beside them. */
#ifndef UACCEL_BENCH_NODE_H
#define UACCEL_BENCH_NODE_H

#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "bench.h"

/* Command `version`: a header of 24 bytes each way (docs/protocol.md), and 80 bytes of answer (docs/uapi/common.md). */
#define REQUEST_BYTES 24
#define REPLY_BYTES (24 + 80)
/* Requests under way at a time. */
#define WINDOW 64

static inline struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	check(strlen(path) < sizeof(address.sun_path), "wanted: the path of a socket");
	strcpy(address.sun_path, path);
	return address;
}

static inline void send_all(int fd, const void *bytes, size_t size)
{
	check(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size, "node: the other side left");
}

/* One byte, and a descriptor where it is not -1. */
static inline void pass(int fd, char byte, int passed)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (passed >= 0) {
		message.msg_control = control.room;
		message.msg_controllen = sizeof(control.room);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &passed, sizeof(int));
	}
	check(sendmsg(fd, &message, MSG_NOSIGNAL) == 1, "node: the other side left");
}

/* Takes what `pass` sent. Answers the descriptor, or -1; -2 at the end of the stream. */
static inline int take(int fd, char *byte)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {byte, 1};
	struct msghdr message = {&(struct sockaddr_un){0}, 0, &part, 1, control.room, sizeof(control.room), 0};
	int passed = -1;

	if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1)
		return -2;
	if (CMSG_FIRSTHDR(&message) != NULL)
		memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return passed;
}

#endif
