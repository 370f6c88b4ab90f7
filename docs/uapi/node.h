/*
 * uAPI of node, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_NODE_UAPI_H
#define UACCEL_NODE_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_NODE_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_NODE_UAPI_DIGEST \
	"\x05\x05\xfd\xbf\xf6\x58\x22\xa1" \
	"\xc1\x28\x4c\xe1\xda\x87\x81\x46" \
	"\xfb\xea\x61\xd4\x6d\x2b\xa6\xba" \
	"\x3c\xdf\x17\x1a\xb8\xae\xef\x0c"

/*
 * What either side speaks. The protocol is the lower of the two versions. An empty digest is
 * not compared. The server tells its name of the node, and what one connection may have under
 * way.
 */
#define UACCEL_NODE_CMD_HELLO 0x0001

/*
 * What follows a header whose `code` is the number of an error. `details` is a JSON object, or
 * empty.
 */
#define UACCEL_NODE_CMD_ERROR 0x0003

/**
 * struct uaccel_node_hello_in - what UACCEL_NODE_CMD_HELLO takes
 * @protocol:
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: UTF-8, not terminated, zero where unused.
 * @version:
 * @common_version:
 * @digest_length: Bytes of @digest: at most 32.
 * @digest: Zero where unused.
 */
struct uaccel_node_hello_in {
	uint32_t protocol;
	uint32_t uapi_length;
	char uapi[32];
	uint32_t version;
	uint32_t common_version;
	uint32_t digest_length;
	uint8_t digest[32];
};
static_assert(sizeof(struct uaccel_node_hello_in) == 84, "size");
static_assert(offsetof(struct uaccel_node_hello_in, protocol) == 0, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, uapi_length) == 4, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, uapi) == 8, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, version) == 40, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, common_version) == 44, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, digest_length) == 48, "offset");
static_assert(offsetof(struct uaccel_node_hello_in, digest) == 52, "offset");

/**
 * struct uaccel_node_hello_out - what UACCEL_NODE_CMD_HELLO answers
 * @protocol:
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: UTF-8, not terminated, zero where unused.
 * @version:
 * @common_version:
 * @digest_length: Bytes of @digest: at most 32.
 * @digest: Zero where unused.
 * @node_length: Bytes of @node: at most 32.
 * @node: UTF-8, not terminated, zero where unused.
 * @max_message_bytes:
 * @max_requests:
 * @max_pending_bytes:
 * @max_fds:
 */
struct uaccel_node_hello_out {
	uint32_t protocol;
	uint32_t uapi_length;
	char uapi[32];
	uint32_t version;
	uint32_t common_version;
	uint32_t digest_length;
	uint8_t digest[32];
	uint32_t node_length;
	char node[32];
	uint32_t max_message_bytes;
	uint32_t max_requests;
	uint32_t max_pending_bytes;
	uint32_t max_fds;
};
static_assert(sizeof(struct uaccel_node_hello_out) == 136, "size");
static_assert(offsetof(struct uaccel_node_hello_out, protocol) == 0, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, uapi_length) == 4, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, uapi) == 8, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, version) == 40, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, common_version) == 44, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, digest_length) == 48, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, digest) == 52, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, node_length) == 84, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, node) == 88, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, max_message_bytes) == 120, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, max_requests) == 124, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, max_pending_bytes) == 128, "offset");
static_assert(offsetof(struct uaccel_node_hello_out, max_fds) == 132, "offset");

/**
 * struct uaccel_node_error_out - what UACCEL_NODE_CMD_ERROR answers
 * @errno_length: Bytes of @errno_: at most 16.
 * @errno_: UTF-8, not terminated, zero where unused.
 * @syscall_length: Bytes of @syscall: at most 32.
 * @syscall: UTF-8, not terminated, zero where unused.
 * @message_length: Bytes of @message: at most 1024.
 * @message: UTF-8, not terminated, zero where unused.
 * @details_length: Bytes of @details: at most 1024.
 * @details: UTF-8, not terminated, zero where unused.
 */
struct uaccel_node_error_out {
	uint32_t errno_length;
	char errno_[16];
	uint32_t syscall_length;
	char syscall[32];
	uint32_t message_length;
	char message[1024];
	uint32_t details_length;
	char details[1024];
};
static_assert(sizeof(struct uaccel_node_error_out) == 2112, "size");
static_assert(offsetof(struct uaccel_node_error_out, errno_length) == 0, "offset");
static_assert(offsetof(struct uaccel_node_error_out, errno_) == 4, "offset");
static_assert(offsetof(struct uaccel_node_error_out, syscall_length) == 20, "offset");
static_assert(offsetof(struct uaccel_node_error_out, syscall) == 24, "offset");
static_assert(offsetof(struct uaccel_node_error_out, message_length) == 56, "offset");
static_assert(offsetof(struct uaccel_node_error_out, message) == 60, "offset");
static_assert(offsetof(struct uaccel_node_error_out, details_length) == 1084, "offset");
static_assert(offsetof(struct uaccel_node_error_out, details) == 1088, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_NODE_UAPI_H */
