/* A client of a device node in C: who is it, how is it, and a factorial of QEMU's edu. docs/protocol.md has the protocol. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include "common.h"
#include "edu.h"
#include "node.h"
#include "query.h"

enum { LIMIT_MS = 1000 };

/* A text has a length and room, and no end of its own: for "%.*s". */
#define TEXT(s, field) (int)((s).field##_length <= sizeof((s).field) ? (s).field##_length : 0), (s).field

static void read_all(int fd, void *into, size_t size)
{
	for (ssize_t n; size > 0; into = (char *)into + n, size -= n)
		if ((n = read(fd, into, size)) <= 0)
			errx(1, "the server is gone");
}

/* Sends one message and waits for its answer; who asks one thing at a time needs no ids. */
static void ask(int fd, struct uaccel_node_header header, const void *in, size_t in_size, void *out, size_t out_size)
{
	static union {
		unsigned char bytes[UACCEL_NODE_MAX_MESSAGE_BYTES];
		struct uaccel_node_error_out error;
	} answer;
	struct iovec parts[] = {{&header, sizeof(header)}, {(void *)in, in_size}};
	size_t size;

	header.length = sizeof(header) + in_size;
	if (writev(fd, parts, 2) != (ssize_t)header.length)
		err(1, "writev");
	read_all(fd, &header, sizeof(header));
	size = header.length - sizeof(header);
	if (size > sizeof(answer.bytes))
		errx(1, "an answer of %zu bytes cannot be", size);
	memset(&answer.error, 0, sizeof(answer.error));
	read_all(fd, answer.bytes, size);
	if (header.code != 0)
		errx(2, "error %u: %.*s", header.code, TEXT(answer.error, message));
	/* An older server says less than is known here, a newer one more. */
	memset(answer.bytes + size, 0, size < out_size ? out_size - size : 0);
	if (out_size > 0)
		memcpy(out, answer.bytes, out_size);
}

static void call(int fd, uint32_t command, const void *in, size_t in_size, void *out, size_t out_size)
{
	struct uaccel_node_header header = {.kind = UACCEL_NODE_KIND_REQUEST, .code = command, .timeout_ms = LIMIT_MS};

	ask(fd, header, in, in_size, out, out_size);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct uaccel_node_hello_in hello = {UACCEL_NODE_PROTOCOL_VERSION, 3, "edu", UACCEL_EDU_UAPI_VERSION,
					     UACCEL_COMMON_UAPI_VERSION, 32, UACCEL_EDU_UAPI_DIGEST};
	struct uaccel_common_info_out info;
	struct uaccel_query_status_out status;
	struct uaccel_common_query_in query = {.kind = UACCEL_QUERY_KIND_STATUS, .size_bytes = sizeof(status)};
	struct uaccel_common_query_out answer;
	struct uaccel_edu_factorial_in factorial = {argc > 2 ? strtoul(argv[2], NULL, 10) : 0};
	struct uaccel_edu_factorial_out product;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 3 || strlen(argv[1]) >= sizeof(address.sun_path))
		errx(64, "usage: client SOCKET N");
	strcpy(address.sun_path, argv[1]);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		err(1, "%s", argv[1]);
	ask(fd, (struct uaccel_node_header){.kind = UACCEL_NODE_KIND_HELLO}, &hello, sizeof(hello), NULL, 0);
	call(fd, UACCEL_COMMON_CMD_INFO, NULL, 0, &info, sizeof(info));
	printf("%.*s: %04x:%04x by driver %.*s\n", TEXT(info, node), info.vendor, info.device, TEXT(info, driver));
	call(fd, UACCEL_COMMON_CMD_QUERY, &query, sizeof(query), &answer, sizeof(answer));
	memcpy(&status, answer.data, sizeof(status)); /* zero beyond what the server has */
	printf("%s, open %u times\n", status.state == UACCEL_QUERY_STATUS_OUT_STATE_OPERATIONAL ? "works" : "does not work",
	       status.opens);
	call(fd, UACCEL_EDU_CMD_FACTORIAL, &factorial, sizeof(factorial), &product, sizeof(product));
	printf("%u! = %u\n", factorial.n, product.value);
	return 0;
}
