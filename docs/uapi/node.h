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

/* What a client that is built with this says as `protocol` of its hello. */
#define UACCEL_NODE_PROTOCOL_VERSION 1

/* No message is longer, header included. What a server takes is in its hello. */
#define UACCEL_NODE_MAX_MESSAGE_BYTES 16777216

/* The first message of either side; `code` of the server’s is 0 or the error’s number. */
#define UACCEL_NODE_KIND_HELLO 0x0001

/* A command: `code` is its number, the payload what it takes. */
#define UACCEL_NODE_KIND_REQUEST 0x0002

/* The answer to the request of that `id`: `code` is 0, or the error’s number. */
#define UACCEL_NODE_KIND_REPLY 0x0003

/* Withdraws the request of that `id`, which is answered all the same. */
#define UACCEL_NODE_KIND_CANCEL 0x0004

/* From the server: `code` is the number of the error that ends the connection. */
#define UACCEL_NODE_KIND_EVENT 0x0005

/**
 * struct uaccel_node_header - what each message begins with; its payload follows
 * @length: Bytes of the whole message, this header included.
 * @id: Of a request: any that still waits for no answer. Of a reply: that of its request.
 * @kind: One of UACCEL_NODE_KIND_*.
 * @fds: Descriptors that travel with the message (SCM_RIGHTS).
 * @code: Of a request: the number of its command. From the server: 0, or the number of an
 *	error, whose structure is the payload.
 * @timeout_ms: Of a request: its limit in milliseconds, the wait for its turn included; 0 is
 *	the server’s own.
 * @reserved: Zero.
 */
struct uaccel_node_header {
	uint32_t length;
	uint32_t id;
	uint16_t kind;
	uint16_t fds;
	uint32_t code;
	uint32_t timeout_ms;
	uint32_t reserved;
};
static_assert(sizeof(struct uaccel_node_header) == 24, "size");
static_assert(offsetof(struct uaccel_node_header, length) == 0, "offset");
static_assert(offsetof(struct uaccel_node_header, id) == 4, "offset");
static_assert(offsetof(struct uaccel_node_header, kind) == 8, "offset");
static_assert(offsetof(struct uaccel_node_header, fds) == 10, "offset");
static_assert(offsetof(struct uaccel_node_header, code) == 12, "offset");
static_assert(offsetof(struct uaccel_node_header, timeout_ms) == 16, "offset");
static_assert(offsetof(struct uaccel_node_header, reserved) == 20, "offset");

/**
 * struct uaccel_node_hello_in - the payload of UACCEL_NODE_KIND_HELLO from the client
 * @protocol: Version of the protocol: the lower of what both say holds.
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: Name of the driver's uAPI, such as edu; common for the common commands alone. UTF-8,
 *	not terminated, zero where unused.
 * @version: Its version.
 * @common_version: Version of the common commands.
 * @digest_length: Bytes of @digest: at most 32.
 * @digest: SHA-256 of the layouts of the uAPI; of length 0 it is not compared. Zero where
 *	unused.
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
 * struct uaccel_node_hello_out - the payload of UACCEL_NODE_KIND_HELLO from the server
 * @protocol: Version of the protocol: the lower of what both say holds.
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: Name of the driver's uAPI, such as edu; common for the common commands alone. UTF-8,
 *	not terminated, zero where unused.
 * @version: Its version.
 * @common_version: Version of the common commands.
 * @digest_length: Bytes of @digest: at most 32.
 * @digest: SHA-256 of the layouts of the uAPI; of length 0 it is not compared. Zero where
 *	unused.
 * @node_length: Bytes of @node: at most 32.
 * @node: Name of the node, such as accel0. UTF-8, not terminated, zero where unused.
 * @max_message_bytes: Bytes of one message.
 * @max_requests: Requests under way.
 * @max_pending_bytes: Bytes of the payloads of the requests under way.
 * @max_fds: Descriptors of the requests under way.
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
 * struct uaccel_node_error_out - the payload of a message from the server whose `code` is not 0
 * @errno_length: Bytes of @errno_: at most 16.
 * @errno_: Name of the errno, such as EBUSY. UTF-8, not terminated, zero where unused.
 * @syscall_length: Bytes of @syscall: at most 32.
 * @syscall: System call that failed; empty where none did. UTF-8, not terminated, zero where
 *	unused.
 * @message_length: Bytes of @message: at most 1024.
 * @message: What was wanted, what was found, what to do. UTF-8, not terminated, zero where
 *	unused.
 * @details_length: Bytes of @details: at most 1024.
 * @details: A JSON object, or empty. UTF-8, not terminated, zero where unused.
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
