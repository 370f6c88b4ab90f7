/*
 * uAPI of common, version 3. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_COMMON_UAPI_H
#define UACCEL_COMMON_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_COMMON_UAPI_VERSION 3

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_COMMON_UAPI_DIGEST \
	"\xb6\x93\xe4\x5b\x1a\x3d\x17\x85" \
	"\xe5\x53\xac\x92\x0e\xf8\x3c\xc1" \
	"\xf9\x87\x55\x41\x82\x98\xc0\x53" \
	"\xfb\xa6\xe5\xcc\xd3\x5f\x86\xf2"

#define ERR_ACCEL_INVALID_ARGUMENT 1 /* EINVAL: An argument is not of the form that the call takes. */
#define ERR_ACCEL_OUT_OF_RANGE 2 /* ERANGE: A value, offset or length lies outside what is allowed. */
#define ERR_ACCEL_NOT_FOUND 3 /* ENOENT: A device, file, driver or tool is not there. */
#define ERR_ACCEL_PERMISSION 4 /* EACCES: The system refuses this user the access. */
#define ERR_ACCEL_BUSY 5 /* EBUSY: Somebody else holds the device or resource. */
#define ERR_ACCEL_NO_MEMORY 6 /* ENOMEM: Memory, or the right to lock it, is used up. */
#define ERR_ACCEL_UNSUPPORTED 7 /* EOPNOTSUPP: The platform, device or peer cannot do this. */
#define ERR_ACCEL_SYSTEM 8 /* EIO: A system call failed; `syscall` and `errno` name it. */
#define ERR_ACCEL_TIMEOUT 9 /* ETIMEDOUT: Something did not happen within its limit. */
#define ERR_ACCEL_ABORTED 10 /* ECANCELED: The caller withdrew the request (AbortSignal). */
#define ERR_ACCEL_NO_DEVICE 11 /* ENODEV: The device is gone: removed, lost, or its driver released it. */
#define ERR_ACCEL_REVOKED 12 /* ENODEV: A mapping was taken back and then touched. */
#define ERR_ACCEL_CLOSED 13 /* ESHUTDOWN: The peer, file or object was closed. */
#define ERR_ACCEL_PROTOCOL 14 /* EPROTO: A peer broke the protocol. */
#define ERR_ACCEL_IO 15 /* EIO: The device answered with an error. */
#define ERR_ACCEL_DMA_FAULT 16 /* EFAULT: A device reached for memory outside its mappings. */
#define ERR_ACCEL_BAD_ACCESS 17 /* EFAULT: A register access of undeclared offset, width or kind. */
#define ERR_ACCEL_WRONG_DRIVER 18 /* EBUSY: The device is bound to another kernel driver. */
#define ERR_ACCEL_GROUP_NOT_VIABLE 19 /* EPERM: Other devices of the IOMMU group are held by kernel drivers. */
#define ERR_ACCEL_NO_IOMMU 20 /* ENODEV: The device stands behind no IOMMU. */
#define ERR_ACCEL_MEMLOCK 21 /* ENOMEM: RLIMIT_MEMLOCK is too small for the mapping. */
#define ERR_ACCEL_MAPPING_LIMIT 22 /* ENOSPC: The container holds as many DMA mappings as it can. */
#define ERR_ACCEL_NO_IOVA 23 /* ENOSPC: No free I/O address range of that size and alignment. */
#define ERR_ACCEL_NO_DRIVER 24 /* ENODEV: No registered driver matches the device. */
#define ERR_ACCEL_PROBE_FAILED 25 /* EIO: The driver's probe threw; `cause` is what it threw. */
#define ERR_ACCEL_UNKNOWN_COMMAND 26 /* ENOTTY: The driver has no command of that number or name. */
#define ERR_ACCEL_BAD_SIZE 27 /* EINVAL: A command argument is shorter or longer than its layout allows. */
#define ERR_ACCEL_BAD_FLAGS 28 /* EINVAL: Flag bits are set that this version does not know. */
#define ERR_ACCEL_RESERVED 29 /* EINVAL: A reserved or unknown field is not zero. */
#define ERR_ACCEL_VERSION 30 /* EPROTONOSUPPORT: The two sides share no version. */
#define ERR_ACCEL_FIRMWARE 31 /* ENOENT: A firmware file is missing or has another digest. */
#define ERR_ACCEL_WEDGED 32 /* EIO: The device did not come back from a reset. */
#define ERR_ACCEL_CORRUPT_MODEL 33 /* EILSEQ: An ONNX file is truncated, malformed or inconsistent. */
#define ERR_ACCEL_UNSUPPORTED_OPERATOR 34 /* EOPNOTSUPP: A graph uses an operator, or a form of it, that is not implemented. */
#define ERR_ACCEL_INVALID_SHAPE 35 /* EINVAL: A tensor's shape or type is not the one that the graph takes. */
#define ERR_ACCEL_DEADLOCK 36 /* EDEADLK: The call would wait for something that only its own thread can do. */
#define ERR_ACCEL_AGAIN 37 /* EAGAIN: Not now: the device is in reset or being cleaned, or as much is under way as may be. Try again. */

/*
 * Which uAPI the node speaks: the driver's name, its version, and the SHA-256 of its layouts.
 */
#define UACCEL_COMMON_CMD_VERSION 0x0000

/* Which device this is, which driver holds it, and what stands between it and memory. */
#define UACCEL_COMMON_CMD_INFO 0x0001

/*
 * One kind of information; kinds and their structures are those of the uAPI query (query.h for
 * C). `present` is false where the node has nothing of that kind. `data` is the first
 * `size_bytes` of the structure, or all of it where that is shorter; the answer’s `size_bytes`
 * is what the node has, and `truncated` says that something that is not zero was cut off. Of a
 * list the entries begin with number `from`.
 */
#define UACCEL_COMMON_CMD_QUERY 0x0002

/*
 * Waits for events after number `after`, those before the open left out, and answers all at
 * hand. `last` is what to ask with next; `lost` is how many in between the node does not have
 * any more. With `nonblock` it answers at once. `at_ns` counts as CLOCK_REALTIME does, `error`
 * is a number of the error table, or 0, and `open` the open concerned, or 0.
 */
#define UACCEL_COMMON_CMD_EVENTS 0x0003

/*
 * Resets the device, where the open has the right to. The commands under way end with an error.
 */
#define UACCEL_COMMON_CMD_RESET 0x0004

/*
 * Traces the device until this open ends, for root and the user of the server: registers,
 * interrupts, DMA mappings, commands and jobs, into a ring in a file that `fd` reads. Its form
 * is that of @uaccel/trace. Once nobody traces any more the file is removed; where the server
 * is killed it stays at `path`.
 */
#define UACCEL_COMMON_CMD_TRACE 0x0005

/*
 * Makes a buffer object of zeroed memory, which belongs to this open. `size_bytes` of the
 * answer is what it really has: whole pages.
 */
#define UACCEL_COMMON_CMD_BO_CREATE 0x0010

/* What a buffer object is. `jobs` counts those that use it and have not ended. */
#define UACCEL_COMMON_CMD_BO_INFO 0x0011

/*
 * Gives a descriptor of the memory, which can neither shrink nor grow, for the client to map:
 * `size_bytes` from `offset` on. The descriptor and the mapping keep the memory when the buffer
 * object goes.
 */
#define UACCEL_COMMON_CMD_BO_MMAP 0x0012

/*
 * Makes what the client wrote into a range visible to the device, or the reverse. Where the
 * device sees the caches of the processor there is nothing to do but to check the range.
 */
#define UACCEL_COMMON_CMD_BO_SYNC 0x0013

/*
 * Waits until the jobs that use the buffer object now have ended, or until `deadline_ns` of
 * CLOCK_MONOTONIC. Answers with the error of the last job that was to write it, where that
 * failed.
 */
#define UACCEL_COMMON_CMD_BO_WAIT 0x0014

/* Gives the handle back. The memory is freed when no job uses it any more. */
#define UACCEL_COMMON_CMD_BO_DESTROY 0x0015

/*
 * Gives a descriptor of the memory for others to import: the memory itself, or a dma-buf of it
 * for kernel drivers. It keeps the memory when the buffer object goes.
 */
#define UACCEL_COMMON_CMD_BO_EXPORT 0x0016

/*
 * Makes a buffer object of memory that was exported, here or elsewhere, or of any memfd that is
 * sealed against shrinking, or of a dma-buf of a buffer object of this server. Where this open
 * has it already, the answer is the handle that it has.
 */
#define UACCEL_COMMON_CMD_BO_IMPORT 0x0017

/*
 * Queues a job for the device. `buffers` is all that it may touch; `payload` has a form of the
 * driver and names them by their place in that list. It starts after the earlier jobs of this
 * open have started, once `waits` are reached and no job is under way that writes what it uses
 * or uses what it writes. When it has ended, however, `signal` is reached; a fence of 0 is
 * none. `job` counts up within the open, for messages.
 */
#define UACCEL_COMMON_CMD_SUBMIT 0x0020

/*
 * Waits until all points are reached, or with `any` the first of them, whose place is `index`;
 * until `deadline_ns` of CLOCK_MONOTONIC at most. A point that no job will signal is refused,
 * unless `for_submit` says that the job is yet to come. Where the job of a point failed, the
 * answer is its error.
 */
#define UACCEL_COMMON_CMD_WAIT 0x0021

/* Makes a timeline fence, which belongs to this open: a value that jobs raise. */
#define UACCEL_COMMON_CMD_FENCE_CREATE 0x0022

/*
 * Gives an eventfd that becomes readable once the fence has reached `value`, whether or not the
 * job failed, or cannot reach it any more because it was destroyed.
 */
#define UACCEL_COMMON_CMD_FENCE_EVENT 0x0023

/* Gives the handle back. Jobs that wait for the fence, or signal it, are not disturbed. */
#define UACCEL_COMMON_CMD_FENCE_DESTROY 0x0024

/*
 * Makes a queue of the device that the client itself fills: it maps `rings` and `doorbell`,
 * each a part of the file that comes with it. `buffers` is all that the queue may touch, and is
 * kept until the queue is gone. `payload` has a form of the driver, both ways. A client signals
 * the eventfd `kick` where the driver says that a device has to be woken. The open has to be
 * the only one of the device, and stays so as long as it has a queue.
 */
#define UACCEL_COMMON_CMD_QUEUE_CREATE 0x0028

/* Stops a queue, and answers when the device is done with all that the queue might touch. */
#define UACCEL_COMMON_CMD_QUEUE_DESTROY 0x0029

/*
 * Gives an eventfd that is signalled when work of the queue was completed, and when the queue
 * has failed.
 */
#define UACCEL_COMMON_CMD_QUEUE_EVENT 0x002a

/*
 * The attributes below a path, or all, or the one of that path, by name, from entry `from` on.
 */
#define UACCEL_COMMON_CMD_ATTR_LIST 0x0030

/* The value of an attribute, as text without a line end. */
#define UACCEL_COMMON_CMD_ATTR_SHOW 0x0031

/* Sets an attribute. One line end after the value is ignored. */
#define UACCEL_COMMON_CMD_ATTR_STORE 0x0032

/*
 * Waits until an attribute is of a later revision than `after`, and shows it. Only attributes
 * whose driver tells of changes get one.
 */
#define UACCEL_COMMON_CMD_ATTR_WATCH 0x0033

/**
 * struct uaccel_common_version_out - what UACCEL_COMMON_CMD_VERSION answers
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: Name of the driver's uAPI. UTF-8, not terminated, zero where unused.
 * @version: Its version.
 * @common_version: Version of the commands that every device answers.
 * @digest_length: Bytes of @digest: at most 32.
 * @digest: SHA-256 of the names, numbers and layouts of the driver's uAPI. Zero where unused.
 */
struct uaccel_common_version_out {
	uint32_t uapi_length;
	char uapi[32];
	uint32_t version;
	uint32_t common_version;
	uint32_t digest_length;
	uint8_t digest[32];
};
static_assert(sizeof(struct uaccel_common_version_out) == 80, "size");
static_assert(offsetof(struct uaccel_common_version_out, uapi_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_version_out, uapi) == 4, "offset");
static_assert(offsetof(struct uaccel_common_version_out, version) == 36, "offset");
static_assert(offsetof(struct uaccel_common_version_out, common_version) == 40, "offset");
static_assert(offsetof(struct uaccel_common_version_out, digest_length) == 44, "offset");
static_assert(offsetof(struct uaccel_common_version_out, digest) == 48, "offset");

/* Values of UACCEL_COMMON_INFO_OUT_EMULATED. */
#define UACCEL_COMMON_INFO_OUT_EMULATED_UNKNOWN UINT32_C(0)
#define UACCEL_COMMON_INFO_OUT_EMULATED_NO UINT32_C(1)
#define UACCEL_COMMON_INFO_OUT_EMULATED_YES UINT32_C(2)

/* Values of UACCEL_COMMON_INFO_OUT_BUS. */
#define UACCEL_COMMON_INFO_OUT_BUS_PCI UINT32_C(0)
#define UACCEL_COMMON_INFO_OUT_BUS_PLATFORM UINT32_C(1)

/**
 * struct uaccel_common_info_out - what UACCEL_COMMON_CMD_INFO answers
 * @node_length: Bytes of @node: at most 32.
 * @node: Name of the node, such as accel0. UTF-8, not terminated, zero where unused.
 * @driver_length: Bytes of @driver: at most 32.
 * @driver: Name of the driver. UTF-8, not terminated, zero where unused.
 * @transport_length: Bytes of @transport: at most 16.
 * @transport: How the driver reaches the device: vfio, uio, vfio-user, loopback. UTF-8, not
 *	terminated, zero where unused.
 * @address_length: Bytes of @address: at most 256.
 * @address: Where the transport found it: a PCI address, a socket. UTF-8, not terminated, zero
 *	where unused.
 * @tainted_length: Bytes of @tainted: at most 256.
 * @tainted: Why the device can reach memory that is not its own; empty where an IOMMU isolates
 *	it. UTF-8, not terminated, zero where unused.
 * @emulated: Whether the device is software. One of UACCEL_COMMON_INFO_OUT_EMULATED_*.
 * @bus: The bus that the device is identified by. One of UACCEL_COMMON_INFO_OUT_BUS_*.
 * @vendor: PCI vendor id; 0 on other buses.
 * @device: PCI device id; 0 on other buses.
 * @class_code: PCI class code, 24 bits: base class, subclass, interface; 0 on other buses.
 * @iommu_length: Bytes of @iommu: at most 16.
 * @iommu: Interface to the IOMMU: type1, iommufd, or none; empty where the kernel does not hold
 *	the device. UTF-8, not terminated, zero where unused. Since version 2.
 */
struct uaccel_common_info_out {
	uint32_t node_length;
	char node[32];
	uint32_t driver_length;
	char driver[32];
	uint32_t transport_length;
	char transport[16];
	uint32_t address_length;
	char address[256];
	uint32_t tainted_length;
	char tainted[256];
	uint32_t emulated;
	uint32_t bus;
	uint16_t vendor;
	uint16_t device;
	uint32_t class_code;
	uint32_t iommu_length;
	char iommu[16];
};
static_assert(sizeof(struct uaccel_common_info_out) == 648, "size");
static_assert(offsetof(struct uaccel_common_info_out, node_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_info_out, node) == 4, "offset");
static_assert(offsetof(struct uaccel_common_info_out, driver_length) == 36, "offset");
static_assert(offsetof(struct uaccel_common_info_out, driver) == 40, "offset");
static_assert(offsetof(struct uaccel_common_info_out, transport_length) == 72, "offset");
static_assert(offsetof(struct uaccel_common_info_out, transport) == 76, "offset");
static_assert(offsetof(struct uaccel_common_info_out, address_length) == 92, "offset");
static_assert(offsetof(struct uaccel_common_info_out, address) == 96, "offset");
static_assert(offsetof(struct uaccel_common_info_out, tainted_length) == 352, "offset");
static_assert(offsetof(struct uaccel_common_info_out, tainted) == 356, "offset");
static_assert(offsetof(struct uaccel_common_info_out, emulated) == 612, "offset");
static_assert(offsetof(struct uaccel_common_info_out, bus) == 616, "offset");
static_assert(offsetof(struct uaccel_common_info_out, vendor) == 620, "offset");
static_assert(offsetof(struct uaccel_common_info_out, device) == 622, "offset");
static_assert(offsetof(struct uaccel_common_info_out, class_code) == 624, "offset");
static_assert(offsetof(struct uaccel_common_info_out, iommu_length) == 628, "offset");
static_assert(offsetof(struct uaccel_common_info_out, iommu) == 632, "offset");

/* Its bytes in each version that it grew in. */
#define UACCEL_COMMON_INFO_OUT_SIZE_V1 628
#define UACCEL_COMMON_INFO_OUT_SIZE_V2 648

/**
 * struct uaccel_common_query_in - what UACCEL_COMMON_CMD_QUERY takes
 * @kind: A number of the uAPI query.
 * @from: First entry wanted, of a list.
 * @size_bytes: What the client has room for.
 */
struct uaccel_common_query_in {
	uint32_t kind;
	uint32_t from;
	uint32_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_query_in) == 12, "size");
static_assert(offsetof(struct uaccel_common_query_in, kind) == 0, "offset");
static_assert(offsetof(struct uaccel_common_query_in, from) == 4, "offset");
static_assert(offsetof(struct uaccel_common_query_in, size_bytes) == 8, "offset");

/**
 * struct uaccel_common_query_out - what UACCEL_COMMON_CMD_QUERY answers
 * @present: Whether the node has anything of that kind. 0 or 1.
 * @truncated: Something that is not zero was cut off. 0 or 1.
 * @reserved_2: Zero.
 * @size_bytes:
 * @data_length: Bytes of @data: at most 8192.
 * @data: Zero where unused.
 */
struct uaccel_common_query_out {
	uint8_t present;
	uint8_t truncated;
	uint8_t reserved_2[2];
	uint32_t size_bytes;
	uint32_t data_length;
	uint8_t data[8192];
};
static_assert(sizeof(struct uaccel_common_query_out) == 8204, "size");
static_assert(offsetof(struct uaccel_common_query_out, present) == 0, "offset");
static_assert(offsetof(struct uaccel_common_query_out, truncated) == 1, "offset");
static_assert(offsetof(struct uaccel_common_query_out, reserved_2) == 2, "offset");
static_assert(offsetof(struct uaccel_common_query_out, size_bytes) == 4, "offset");
static_assert(offsetof(struct uaccel_common_query_out, data_length) == 8, "offset");
static_assert(offsetof(struct uaccel_common_query_out, data) == 12, "offset");

/* Flags: bits of UACCEL_COMMON_EVENTS_IN_OPTIONS. */
#define UACCEL_COMMON_EVENTS_IN_OPTIONS_NONBLOCK (UINT32_C(1) << 0)

/**
 * struct uaccel_common_events_in - what UACCEL_COMMON_CMD_EVENTS takes
 * @after: `last` of the answer before; 0 at first.
 * @options: Bits of UACCEL_COMMON_EVENTS_IN_OPTIONS_*.
 * @reserved_12: Zero.
 */
struct uaccel_common_events_in {
	uint64_t after;
	uint32_t options;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_events_in) == 16, "size");
static_assert(offsetof(struct uaccel_common_events_in, after) == 0, "offset");
static_assert(offsetof(struct uaccel_common_events_in, options) == 8, "offset");
static_assert(offsetof(struct uaccel_common_events_in, reserved_12) == 12, "offset");

/* Values of UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND. */
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_OTHER UINT32_C(0)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_RESET UINT32_C(1)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_TIMEOUT UINT32_C(2)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_PAGE_FAULT UINT32_C(3)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_ERROR UINT32_C(4)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_REMOVAL UINT32_C(5)
#define UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_REQUEST UINT32_C(6)

/**
 * struct uaccel_common_events_out_events - a part of the structure that follows
 * @sequence: Counts up by one with each event of the node.
 * @at_ns:
 * @kind: One of UACCEL_COMMON_EVENTS_OUT_EVENTS_KIND_*.
 * @error:
 * @open:
 * @reason_length: Bytes of @reason: at most 160.
 * @reason: UTF-8, not terminated, zero where unused.
 */
struct uaccel_common_events_out_events {
	uint64_t sequence;
	uint64_t at_ns;
	uint32_t kind;
	uint32_t error;
	uint32_t open;
	uint32_t reason_length;
	char reason[160];
};
static_assert(sizeof(struct uaccel_common_events_out_events) == 192, "size");
static_assert(offsetof(struct uaccel_common_events_out_events, sequence) == 0, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, at_ns) == 8, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, kind) == 16, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, error) == 20, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, open) == 24, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, reason_length) == 28, "offset");
static_assert(offsetof(struct uaccel_common_events_out_events, reason) == 32, "offset");

/**
 * struct uaccel_common_events_out - what UACCEL_COMMON_CMD_EVENTS answers
 * @last:
 * @lost: Events in between that the node does not have any more.
 * @events_count: Elements of @events: at most 32.
 * @reserved_20: Zero.
 * @events: Zero where unused.
 */
struct uaccel_common_events_out {
	uint64_t last;
	uint64_t lost;
	uint32_t events_count;
	uint8_t reserved_20[4];
	struct uaccel_common_events_out_events events[32];
};
static_assert(sizeof(struct uaccel_common_events_out) == 6168, "size");
static_assert(offsetof(struct uaccel_common_events_out, last) == 0, "offset");
static_assert(offsetof(struct uaccel_common_events_out, lost) == 8, "offset");
static_assert(offsetof(struct uaccel_common_events_out, events_count) == 16, "offset");
static_assert(offsetof(struct uaccel_common_events_out, reserved_20) == 20, "offset");
static_assert(offsetof(struct uaccel_common_events_out, events) == 24, "offset");

/* Values of UACCEL_COMMON_RESET_IN_KIND. */
#define UACCEL_COMMON_RESET_IN_KIND_DEFAULT UINT32_C(0)
#define UACCEL_COMMON_RESET_IN_KIND_FUNCTION UINT32_C(1)
#define UACCEL_COMMON_RESET_IN_KIND_HOT UINT32_C(2)

/**
 * struct uaccel_common_reset_in - what UACCEL_COMMON_CMD_RESET takes
 * @kind: One of UACCEL_COMMON_RESET_IN_KIND_*.
 * @reason_length: Bytes of @reason: at most 128.
 * @reason: For the record, and for those whom it hits. UTF-8, not terminated, zero where
 *	unused.
 */
struct uaccel_common_reset_in {
	uint32_t kind;
	uint32_t reason_length;
	char reason[128];
};
static_assert(sizeof(struct uaccel_common_reset_in) == 136, "size");
static_assert(offsetof(struct uaccel_common_reset_in, kind) == 0, "offset");
static_assert(offsetof(struct uaccel_common_reset_in, reason_length) == 4, "offset");
static_assert(offsetof(struct uaccel_common_reset_in, reason) == 8, "offset");

/**
 * struct uaccel_common_trace_in - what UACCEL_COMMON_CMD_TRACE takes
 * @flags: Bits of UACCEL_COMMON_TRACE_IN_FLAGS_*.
 */
struct uaccel_common_trace_in {
	uint32_t flags;
};
static_assert(sizeof(struct uaccel_common_trace_in) == 4, "size");
static_assert(offsetof(struct uaccel_common_trace_in, flags) == 0, "offset");

/**
 * struct uaccel_common_trace_out - what UACCEL_COMMON_CMD_TRACE answers
 * @path_length: Bytes of @path: at most 256.
 * @path: UTF-8, not terminated, zero where unused.
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 */
struct uaccel_common_trace_out {
	uint32_t path_length;
	char path[256];
	uint32_t fd;
};
static_assert(sizeof(struct uaccel_common_trace_out) == 264, "size");
static_assert(offsetof(struct uaccel_common_trace_out, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_trace_out, path) == 4, "offset");
static_assert(offsetof(struct uaccel_common_trace_out, fd) == 260, "offset");

/**
 * struct uaccel_common_bo_create_in - what UACCEL_COMMON_CMD_BO_CREATE takes
 * @size_bytes:
 * @flags: Bits of UACCEL_COMMON_BO_CREATE_IN_FLAGS_*.
 * @reserved_12: Zero.
 */
struct uaccel_common_bo_create_in {
	uint64_t size_bytes;
	uint32_t flags;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_bo_create_in) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_create_in, size_bytes) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_create_in, flags) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_create_in, reserved_12) == 12, "offset");

/**
 * struct uaccel_common_bo_create_out - what UACCEL_COMMON_CMD_BO_CREATE answers
 * @size_bytes:
 * @handle: A handle of a bo; 0 is none.
 * @reserved_12: Zero.
 */
struct uaccel_common_bo_create_out {
	uint64_t size_bytes;
	uint32_t handle;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_bo_create_out) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_create_out, size_bytes) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_create_out, handle) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_create_out, reserved_12) == 12, "offset");

/**
 * struct uaccel_common_bo_info_in - what UACCEL_COMMON_CMD_BO_INFO takes
 * @handle: A handle of a bo; 0 is none.
 */
struct uaccel_common_bo_info_in {
	uint32_t handle;
};
static_assert(sizeof(struct uaccel_common_bo_info_in) == 4, "size");
static_assert(offsetof(struct uaccel_common_bo_info_in, handle) == 0, "offset");

/**
 * struct uaccel_common_bo_info_out - what UACCEL_COMMON_CMD_BO_INFO answers
 * @size_bytes:
 * @flags: Bits of UACCEL_COMMON_BO_INFO_OUT_FLAGS_*.
 * @jobs: Jobs that use it and have not ended.
 */
struct uaccel_common_bo_info_out {
	uint64_t size_bytes;
	uint32_t flags;
	uint32_t jobs;
};
static_assert(sizeof(struct uaccel_common_bo_info_out) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_info_out, size_bytes) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_info_out, flags) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_info_out, jobs) == 12, "offset");

/**
 * struct uaccel_common_bo_mmap_in - what UACCEL_COMMON_CMD_BO_MMAP takes
 * @handle: A handle of a bo; 0 is none.
 * @flags: Bits of UACCEL_COMMON_BO_MMAP_IN_FLAGS_*.
 */
struct uaccel_common_bo_mmap_in {
	uint32_t handle;
	uint32_t flags;
};
static_assert(sizeof(struct uaccel_common_bo_mmap_in) == 8, "size");
static_assert(offsetof(struct uaccel_common_bo_mmap_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_mmap_in, flags) == 4, "offset");

/**
 * struct uaccel_common_bo_mmap_out - what UACCEL_COMMON_CMD_BO_MMAP answers
 * @offset:
 * @size_bytes:
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 * @reserved_20: Zero.
 */
struct uaccel_common_bo_mmap_out {
	uint64_t offset;
	uint64_t size_bytes;
	uint32_t fd;
	uint8_t reserved_20[4];
};
static_assert(sizeof(struct uaccel_common_bo_mmap_out) == 24, "size");
static_assert(offsetof(struct uaccel_common_bo_mmap_out, offset) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_mmap_out, size_bytes) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_mmap_out, fd) == 16, "offset");
static_assert(offsetof(struct uaccel_common_bo_mmap_out, reserved_20) == 20, "offset");

/* Values of UACCEL_COMMON_BO_SYNC_IN_DIRECTION. */
#define UACCEL_COMMON_BO_SYNC_IN_DIRECTION_TO_DEVICE UINT32_C(0)
#define UACCEL_COMMON_BO_SYNC_IN_DIRECTION_FROM_DEVICE UINT32_C(1)

/**
 * struct uaccel_common_bo_sync_in - what UACCEL_COMMON_CMD_BO_SYNC takes
 * @handle: A handle of a bo; 0 is none.
 * @direction: One of UACCEL_COMMON_BO_SYNC_IN_DIRECTION_*.
 * @offset:
 * @size_bytes:
 */
struct uaccel_common_bo_sync_in {
	uint32_t handle;
	uint32_t direction;
	uint64_t offset;
	uint64_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_bo_sync_in) == 24, "size");
static_assert(offsetof(struct uaccel_common_bo_sync_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_sync_in, direction) == 4, "offset");
static_assert(offsetof(struct uaccel_common_bo_sync_in, offset) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_sync_in, size_bytes) == 16, "offset");

/**
 * struct uaccel_common_bo_wait_in - what UACCEL_COMMON_CMD_BO_WAIT takes
 * @handle: A handle of a bo; 0 is none.
 * @reserved_4: Zero.
 * @deadline_ns: Time of CLOCK_MONOTONIC.
 */
struct uaccel_common_bo_wait_in {
	uint32_t handle;
	uint8_t reserved_4[4];
	uint64_t deadline_ns;
};
static_assert(sizeof(struct uaccel_common_bo_wait_in) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_wait_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_wait_in, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_bo_wait_in, deadline_ns) == 8, "offset");

/**
 * struct uaccel_common_bo_destroy_in - what UACCEL_COMMON_CMD_BO_DESTROY takes
 * @handle: A handle of a bo; 0 is none.
 */
struct uaccel_common_bo_destroy_in {
	uint32_t handle;
};
static_assert(sizeof(struct uaccel_common_bo_destroy_in) == 4, "size");
static_assert(offsetof(struct uaccel_common_bo_destroy_in, handle) == 0, "offset");

/* Values of UACCEL_COMMON_BO_EXPORT_IN_KIND. */
#define UACCEL_COMMON_BO_EXPORT_IN_KIND_MEMORY UINT32_C(0)
#define UACCEL_COMMON_BO_EXPORT_IN_KIND_DMA_BUF UINT32_C(1)

/**
 * struct uaccel_common_bo_export_in - what UACCEL_COMMON_CMD_BO_EXPORT takes
 * @handle: A handle of a bo; 0 is none.
 * @kind: One of UACCEL_COMMON_BO_EXPORT_IN_KIND_*.
 * @flags: Bits of UACCEL_COMMON_BO_EXPORT_IN_FLAGS_*.
 */
struct uaccel_common_bo_export_in {
	uint32_t handle;
	uint32_t kind;
	uint32_t flags;
};
static_assert(sizeof(struct uaccel_common_bo_export_in) == 12, "size");
static_assert(offsetof(struct uaccel_common_bo_export_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_export_in, kind) == 4, "offset");
static_assert(offsetof(struct uaccel_common_bo_export_in, flags) == 8, "offset");

/**
 * struct uaccel_common_bo_export_out - what UACCEL_COMMON_CMD_BO_EXPORT answers
 * @size_bytes:
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 * @reserved_12: Zero.
 */
struct uaccel_common_bo_export_out {
	uint64_t size_bytes;
	uint32_t fd;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_bo_export_out) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_export_out, size_bytes) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_export_out, fd) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_export_out, reserved_12) == 12, "offset");

/**
 * struct uaccel_common_bo_import_in - what UACCEL_COMMON_CMD_BO_IMPORT takes
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 * @flags: Bits of UACCEL_COMMON_BO_IMPORT_IN_FLAGS_*.
 */
struct uaccel_common_bo_import_in {
	uint32_t fd;
	uint32_t flags;
};
static_assert(sizeof(struct uaccel_common_bo_import_in) == 8, "size");
static_assert(offsetof(struct uaccel_common_bo_import_in, fd) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_import_in, flags) == 4, "offset");

/**
 * struct uaccel_common_bo_import_out - what UACCEL_COMMON_CMD_BO_IMPORT answers
 * @size_bytes:
 * @handle: A handle of a bo; 0 is none.
 * @reserved_12: Zero.
 */
struct uaccel_common_bo_import_out {
	uint64_t size_bytes;
	uint32_t handle;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_bo_import_out) == 16, "size");
static_assert(offsetof(struct uaccel_common_bo_import_out, size_bytes) == 0, "offset");
static_assert(offsetof(struct uaccel_common_bo_import_out, handle) == 8, "offset");
static_assert(offsetof(struct uaccel_common_bo_import_out, reserved_12) == 12, "offset");

/* Values of UACCEL_COMMON_SUBMIT_IN_BUFFERS_ACCESS. */
#define UACCEL_COMMON_SUBMIT_IN_BUFFERS_ACCESS_READ UINT32_C(0)
#define UACCEL_COMMON_SUBMIT_IN_BUFFERS_ACCESS_WRITE UINT32_C(1)
#define UACCEL_COMMON_SUBMIT_IN_BUFFERS_ACCESS_READWRITE UINT32_C(2)

/**
 * struct uaccel_common_submit_in_buffers - a part of the structure that follows
 * @handle: A handle of a bo; 0 is none.
 * @access: One of UACCEL_COMMON_SUBMIT_IN_BUFFERS_ACCESS_*.
 * @offset:
 * @size_bytes:
 */
struct uaccel_common_submit_in_buffers {
	uint32_t handle;
	uint32_t access;
	uint64_t offset;
	uint64_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_submit_in_buffers) == 24, "size");
static_assert(offsetof(struct uaccel_common_submit_in_buffers, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_buffers, access) == 4, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_buffers, offset) == 8, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_buffers, size_bytes) == 16, "offset");

/**
 * struct uaccel_common_submit_in_waits - a part of the structure that follows
 * @fence: A handle of a fence; 0 is none.
 * @reserved_4: Zero.
 * @value:
 */
struct uaccel_common_submit_in_waits {
	uint32_t fence;
	uint8_t reserved_4[4];
	uint64_t value;
};
static_assert(sizeof(struct uaccel_common_submit_in_waits) == 16, "size");
static_assert(offsetof(struct uaccel_common_submit_in_waits, fence) == 0, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_waits, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_waits, value) == 8, "offset");

/**
 * struct uaccel_common_submit_in_signal - a part of the structure that follows
 * @fence: A handle of a fence; 0 is none.
 * @reserved_4: Zero.
 * @value:
 */
struct uaccel_common_submit_in_signal {
	uint32_t fence;
	uint8_t reserved_4[4];
	uint64_t value;
};
static_assert(sizeof(struct uaccel_common_submit_in_signal) == 16, "size");
static_assert(offsetof(struct uaccel_common_submit_in_signal, fence) == 0, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_signal, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_submit_in_signal, value) == 8, "offset");

/**
 * struct uaccel_common_submit_in - what UACCEL_COMMON_CMD_SUBMIT takes
 * @buffers_count: Elements of @buffers: at most 32.
 * @reserved_4: Zero.
 * @buffers: Zero where unused.
 * @waits_count: Elements of @waits: at most 8.
 * @reserved_780: Zero.
 * @waits: Zero where unused.
 * @signal:
 * @flags: Bits of UACCEL_COMMON_SUBMIT_IN_FLAGS_*.
 * @payload_length: Bytes of @payload: at most 8192.
 * @payload: Zero where unused.
 */
struct uaccel_common_submit_in {
	uint32_t buffers_count;
	uint8_t reserved_4[4];
	struct uaccel_common_submit_in_buffers buffers[32];
	uint32_t waits_count;
	uint8_t reserved_780[4];
	struct uaccel_common_submit_in_waits waits[8];
	struct uaccel_common_submit_in_signal signal;
	uint32_t flags;
	uint32_t payload_length;
	uint8_t payload[8192];
};
static_assert(sizeof(struct uaccel_common_submit_in) == 9128, "size");
static_assert(offsetof(struct uaccel_common_submit_in, buffers_count) == 0, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, buffers) == 8, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, waits_count) == 776, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, reserved_780) == 780, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, waits) == 784, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, signal) == 912, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, flags) == 928, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, payload_length) == 932, "offset");
static_assert(offsetof(struct uaccel_common_submit_in, payload) == 936, "offset");

/**
 * struct uaccel_common_submit_out - what UACCEL_COMMON_CMD_SUBMIT answers
 * @job:
 */
struct uaccel_common_submit_out {
	uint64_t job;
};
static_assert(sizeof(struct uaccel_common_submit_out) == 8, "size");
static_assert(offsetof(struct uaccel_common_submit_out, job) == 0, "offset");

/**
 * struct uaccel_common_wait_in_points - a part of the structure that follows
 * @fence: A handle of a fence; 0 is none.
 * @reserved_4: Zero.
 * @value:
 */
struct uaccel_common_wait_in_points {
	uint32_t fence;
	uint8_t reserved_4[4];
	uint64_t value;
};
static_assert(sizeof(struct uaccel_common_wait_in_points) == 16, "size");
static_assert(offsetof(struct uaccel_common_wait_in_points, fence) == 0, "offset");
static_assert(offsetof(struct uaccel_common_wait_in_points, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_wait_in_points, value) == 8, "offset");

/* Flags: bits of UACCEL_COMMON_WAIT_IN_FLAGS. */
#define UACCEL_COMMON_WAIT_IN_FLAGS_ANY (UINT32_C(1) << 0)
#define UACCEL_COMMON_WAIT_IN_FLAGS_FOR_SUBMIT (UINT32_C(1) << 1)

/**
 * struct uaccel_common_wait_in - what UACCEL_COMMON_CMD_WAIT takes
 * @points_count: Elements of @points: at most 16.
 * @reserved_4: Zero.
 * @points: Zero where unused.
 * @deadline_ns:
 * @flags: Bits of UACCEL_COMMON_WAIT_IN_FLAGS_*.
 * @reserved_276: Zero.
 */
struct uaccel_common_wait_in {
	uint32_t points_count;
	uint8_t reserved_4[4];
	struct uaccel_common_wait_in_points points[16];
	uint64_t deadline_ns;
	uint32_t flags;
	uint8_t reserved_276[4];
};
static_assert(sizeof(struct uaccel_common_wait_in) == 280, "size");
static_assert(offsetof(struct uaccel_common_wait_in, points_count) == 0, "offset");
static_assert(offsetof(struct uaccel_common_wait_in, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_wait_in, points) == 8, "offset");
static_assert(offsetof(struct uaccel_common_wait_in, deadline_ns) == 264, "offset");
static_assert(offsetof(struct uaccel_common_wait_in, flags) == 272, "offset");
static_assert(offsetof(struct uaccel_common_wait_in, reserved_276) == 276, "offset");

/**
 * struct uaccel_common_wait_out - what UACCEL_COMMON_CMD_WAIT answers
 * @index:
 */
struct uaccel_common_wait_out {
	uint32_t index;
};
static_assert(sizeof(struct uaccel_common_wait_out) == 4, "size");
static_assert(offsetof(struct uaccel_common_wait_out, index) == 0, "offset");

/**
 * struct uaccel_common_fence_create_in - what UACCEL_COMMON_CMD_FENCE_CREATE takes
 * @initial_value:
 * @flags: Bits of UACCEL_COMMON_FENCE_CREATE_IN_FLAGS_*.
 * @reserved_12: Zero.
 */
struct uaccel_common_fence_create_in {
	uint64_t initial_value;
	uint32_t flags;
	uint8_t reserved_12[4];
};
static_assert(sizeof(struct uaccel_common_fence_create_in) == 16, "size");
static_assert(offsetof(struct uaccel_common_fence_create_in, initial_value) == 0, "offset");
static_assert(offsetof(struct uaccel_common_fence_create_in, flags) == 8, "offset");
static_assert(offsetof(struct uaccel_common_fence_create_in, reserved_12) == 12, "offset");

/**
 * struct uaccel_common_fence_create_out - what UACCEL_COMMON_CMD_FENCE_CREATE answers
 * @handle: A handle of a fence; 0 is none.
 */
struct uaccel_common_fence_create_out {
	uint32_t handle;
};
static_assert(sizeof(struct uaccel_common_fence_create_out) == 4, "size");
static_assert(offsetof(struct uaccel_common_fence_create_out, handle) == 0, "offset");

/**
 * struct uaccel_common_fence_event_in - what UACCEL_COMMON_CMD_FENCE_EVENT takes
 * @handle: A handle of a fence; 0 is none.
 * @flags: Bits of UACCEL_COMMON_FENCE_EVENT_IN_FLAGS_*.
 * @value:
 */
struct uaccel_common_fence_event_in {
	uint32_t handle;
	uint32_t flags;
	uint64_t value;
};
static_assert(sizeof(struct uaccel_common_fence_event_in) == 16, "size");
static_assert(offsetof(struct uaccel_common_fence_event_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_fence_event_in, flags) == 4, "offset");
static_assert(offsetof(struct uaccel_common_fence_event_in, value) == 8, "offset");

/**
 * struct uaccel_common_fence_event_out - what UACCEL_COMMON_CMD_FENCE_EVENT answers
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 */
struct uaccel_common_fence_event_out {
	uint32_t fd;
};
static_assert(sizeof(struct uaccel_common_fence_event_out) == 4, "size");
static_assert(offsetof(struct uaccel_common_fence_event_out, fd) == 0, "offset");

/**
 * struct uaccel_common_fence_destroy_in - what UACCEL_COMMON_CMD_FENCE_DESTROY takes
 * @handle: A handle of a fence; 0 is none.
 */
struct uaccel_common_fence_destroy_in {
	uint32_t handle;
};
static_assert(sizeof(struct uaccel_common_fence_destroy_in) == 4, "size");
static_assert(offsetof(struct uaccel_common_fence_destroy_in, handle) == 0, "offset");

/* Values of UACCEL_COMMON_QUEUE_CREATE_IN_BUFFERS_ACCESS. */
#define UACCEL_COMMON_QUEUE_CREATE_IN_BUFFERS_ACCESS_READ UINT32_C(0)
#define UACCEL_COMMON_QUEUE_CREATE_IN_BUFFERS_ACCESS_WRITE UINT32_C(1)
#define UACCEL_COMMON_QUEUE_CREATE_IN_BUFFERS_ACCESS_READWRITE UINT32_C(2)

/**
 * struct uaccel_common_queue_create_in_buffers - a part of the structure that follows
 * @handle: A handle of a bo; 0 is none.
 * @access: One of UACCEL_COMMON_QUEUE_CREATE_IN_BUFFERS_ACCESS_*.
 * @offset:
 * @size_bytes:
 */
struct uaccel_common_queue_create_in_buffers {
	uint32_t handle;
	uint32_t access;
	uint64_t offset;
	uint64_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_queue_create_in_buffers) == 24, "size");
static_assert(offsetof(struct uaccel_common_queue_create_in_buffers, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in_buffers, access) == 4, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in_buffers, offset) == 8, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in_buffers, size_bytes) == 16, "offset");

/**
 * struct uaccel_common_queue_create_in - what UACCEL_COMMON_CMD_QUEUE_CREATE takes
 * @buffers_count: Elements of @buffers: at most 32.
 * @reserved_4: Zero.
 * @buffers: Zero where unused.
 * @entries:
 * @flags: Bits of UACCEL_COMMON_QUEUE_CREATE_IN_FLAGS_*.
 * @payload_length: Bytes of @payload: at most 256.
 * @payload: Zero where unused.
 * @reserved_1044: Zero.
 */
struct uaccel_common_queue_create_in {
	uint32_t buffers_count;
	uint8_t reserved_4[4];
	struct uaccel_common_queue_create_in_buffers buffers[32];
	uint32_t entries;
	uint32_t flags;
	uint32_t payload_length;
	uint8_t payload[256];
	uint8_t reserved_1044[4];
};
static_assert(sizeof(struct uaccel_common_queue_create_in) == 1048, "size");
static_assert(offsetof(struct uaccel_common_queue_create_in, buffers_count) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, buffers) == 8, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, entries) == 776, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, flags) == 780, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, payload_length) == 784, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, payload) == 788, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_in, reserved_1044) == 1044, "offset");

/**
 * struct uaccel_common_queue_create_out_rings_part - a part of the structure that follows
 * @offset:
 * @size_bytes:
 */
struct uaccel_common_queue_create_out_rings_part {
	uint64_t offset;
	uint64_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_queue_create_out_rings_part) == 16, "size");
static_assert(offsetof(struct uaccel_common_queue_create_out_rings_part, offset) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out_rings_part, size_bytes) == 8, "offset");

/**
 * struct uaccel_common_queue_create_out_doorbell_part - a part of the structure that follows
 * @offset:
 * @size_bytes:
 */
struct uaccel_common_queue_create_out_doorbell_part {
	uint64_t offset;
	uint64_t size_bytes;
};
static_assert(sizeof(struct uaccel_common_queue_create_out_doorbell_part) == 16, "size");
static_assert(offsetof(struct uaccel_common_queue_create_out_doorbell_part, offset) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out_doorbell_part, size_bytes) == 8, "offset");

/**
 * struct uaccel_common_queue_create_out - what UACCEL_COMMON_CMD_QUEUE_CREATE answers
 * @handle: A handle of a queue; 0 is none.
 * @reserved_4: Zero.
 * @rings_part:
 * @doorbell_part:
 * @rings: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 * @doorbell: Place among the descriptors that travel beside the structure, from 1 on; 0 is
 *	none.
 * @kick: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 * @payload_length: Bytes of @payload: at most 1024.
 * @payload: Zero where unused.
 */
struct uaccel_common_queue_create_out {
	uint32_t handle;
	uint8_t reserved_4[4];
	struct uaccel_common_queue_create_out_rings_part rings_part;
	struct uaccel_common_queue_create_out_doorbell_part doorbell_part;
	uint32_t rings;
	uint32_t doorbell;
	uint32_t kick;
	uint32_t payload_length;
	uint8_t payload[1024];
};
static_assert(sizeof(struct uaccel_common_queue_create_out) == 1080, "size");
static_assert(offsetof(struct uaccel_common_queue_create_out, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, rings_part) == 8, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, doorbell_part) == 24, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, rings) == 40, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, doorbell) == 44, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, kick) == 48, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, payload_length) == 52, "offset");
static_assert(offsetof(struct uaccel_common_queue_create_out, payload) == 56, "offset");

/**
 * struct uaccel_common_queue_destroy_in - what UACCEL_COMMON_CMD_QUEUE_DESTROY takes
 * @handle: A handle of a queue; 0 is none.
 */
struct uaccel_common_queue_destroy_in {
	uint32_t handle;
};
static_assert(sizeof(struct uaccel_common_queue_destroy_in) == 4, "size");
static_assert(offsetof(struct uaccel_common_queue_destroy_in, handle) == 0, "offset");

/**
 * struct uaccel_common_queue_event_in - what UACCEL_COMMON_CMD_QUEUE_EVENT takes
 * @handle: A handle of a queue; 0 is none.
 * @flags: Bits of UACCEL_COMMON_QUEUE_EVENT_IN_FLAGS_*.
 */
struct uaccel_common_queue_event_in {
	uint32_t handle;
	uint32_t flags;
};
static_assert(sizeof(struct uaccel_common_queue_event_in) == 8, "size");
static_assert(offsetof(struct uaccel_common_queue_event_in, handle) == 0, "offset");
static_assert(offsetof(struct uaccel_common_queue_event_in, flags) == 4, "offset");

/**
 * struct uaccel_common_queue_event_out - what UACCEL_COMMON_CMD_QUEUE_EVENT answers
 * @fd: Place among the descriptors that travel beside the structure, from 1 on; 0 is none.
 */
struct uaccel_common_queue_event_out {
	uint32_t fd;
};
static_assert(sizeof(struct uaccel_common_queue_event_out) == 4, "size");
static_assert(offsetof(struct uaccel_common_queue_event_out, fd) == 0, "offset");

/**
 * struct uaccel_common_attr_list_in - what UACCEL_COMMON_CMD_ATTR_LIST takes
 * @path_length: Bytes of @path: at most 128.
 * @path: UTF-8, not terminated, zero where unused.
 * @from: First entry wanted.
 */
struct uaccel_common_attr_list_in {
	uint32_t path_length;
	char path[128];
	uint32_t from;
};
static_assert(sizeof(struct uaccel_common_attr_list_in) == 136, "size");
static_assert(offsetof(struct uaccel_common_attr_list_in, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_in, path) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_in, from) == 132, "offset");

/* Values of UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_SCOPE. */
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_SCOPE_STABLE UINT32_C(0)
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_SCOPE_DEBUG UINT32_C(1)

/* Values of UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE. */
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE_TEXT UINT32_C(0)
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE_INTEGER UINT32_C(1)
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE_NUMBER UINT32_C(2)
#define UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE_BOOLEAN UINT32_C(3)

/**
 * struct uaccel_common_attr_list_out_entries - a part of the structure that follows
 * @path_length: Bytes of @path: at most 128.
 * @path: UTF-8, not terminated, zero where unused.
 * @mode:
 * @reserved_134: Zero.
 * @scope: One of UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_SCOPE_*.
 * @type: One of UACCEL_COMMON_ATTR_LIST_OUT_ENTRIES_TYPE_*.
 * @unit_length: Bytes of @unit: at most 16.
 * @unit: UTF-8, not terminated, zero where unused.
 * @reserved_164: Zero.
 * @revision:
 */
struct uaccel_common_attr_list_out_entries {
	uint32_t path_length;
	char path[128];
	uint16_t mode;
	uint8_t reserved_134[2];
	uint32_t scope;
	uint32_t type;
	uint32_t unit_length;
	char unit[16];
	uint8_t reserved_164[4];
	uint64_t revision;
};
static_assert(sizeof(struct uaccel_common_attr_list_out_entries) == 176, "size");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, path) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, mode) == 132, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, reserved_134) == 134, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, scope) == 136, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, type) == 140, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, unit_length) == 144, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, unit) == 148, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, reserved_164) == 164, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out_entries, revision) == 168, "offset");

/**
 * struct uaccel_common_attr_list_out - what UACCEL_COMMON_CMD_ATTR_LIST answers
 * @total: How many there are in all.
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 32.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_common_attr_list_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_common_attr_list_out_entries entries[32];
};
static_assert(sizeof(struct uaccel_common_attr_list_out) == 5648, "size");
static_assert(offsetof(struct uaccel_common_attr_list_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_common_attr_list_out, entries) == 16, "offset");

/**
 * struct uaccel_common_attr_show_in - what UACCEL_COMMON_CMD_ATTR_SHOW takes
 * @path_length: Bytes of @path: at most 128.
 * @path: UTF-8, not terminated, zero where unused.
 */
struct uaccel_common_attr_show_in {
	uint32_t path_length;
	char path[128];
};
static_assert(sizeof(struct uaccel_common_attr_show_in) == 132, "size");
static_assert(offsetof(struct uaccel_common_attr_show_in, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_in, path) == 4, "offset");

/* Values of UACCEL_COMMON_ATTR_SHOW_OUT_SCOPE. */
#define UACCEL_COMMON_ATTR_SHOW_OUT_SCOPE_STABLE UINT32_C(0)
#define UACCEL_COMMON_ATTR_SHOW_OUT_SCOPE_DEBUG UINT32_C(1)

/* Values of UACCEL_COMMON_ATTR_SHOW_OUT_TYPE. */
#define UACCEL_COMMON_ATTR_SHOW_OUT_TYPE_TEXT UINT32_C(0)
#define UACCEL_COMMON_ATTR_SHOW_OUT_TYPE_INTEGER UINT32_C(1)
#define UACCEL_COMMON_ATTR_SHOW_OUT_TYPE_NUMBER UINT32_C(2)
#define UACCEL_COMMON_ATTR_SHOW_OUT_TYPE_BOOLEAN UINT32_C(3)

/**
 * struct uaccel_common_attr_show_out - what UACCEL_COMMON_CMD_ATTR_SHOW answers
 * @mode:
 * @reserved_2: Zero.
 * @scope: One of UACCEL_COMMON_ATTR_SHOW_OUT_SCOPE_*.
 * @type: One of UACCEL_COMMON_ATTR_SHOW_OUT_TYPE_*.
 * @unit_length: Bytes of @unit: at most 16.
 * @unit: UTF-8, not terminated, zero where unused.
 * @revision:
 * @value_length: Bytes of @value: at most 4096.
 * @value: UTF-8, not terminated, zero where unused.
 * @reserved_4140: Zero.
 */
struct uaccel_common_attr_show_out {
	uint16_t mode;
	uint8_t reserved_2[2];
	uint32_t scope;
	uint32_t type;
	uint32_t unit_length;
	char unit[16];
	uint64_t revision;
	uint32_t value_length;
	char value[4096];
	uint8_t reserved_4140[4];
};
static_assert(sizeof(struct uaccel_common_attr_show_out) == 4144, "size");
static_assert(offsetof(struct uaccel_common_attr_show_out, mode) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, reserved_2) == 2, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, scope) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, type) == 8, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, unit_length) == 12, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, unit) == 16, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, revision) == 32, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, value_length) == 40, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, value) == 44, "offset");
static_assert(offsetof(struct uaccel_common_attr_show_out, reserved_4140) == 4140, "offset");

/**
 * struct uaccel_common_attr_store_in - what UACCEL_COMMON_CMD_ATTR_STORE takes
 * @path_length: Bytes of @path: at most 128.
 * @path: UTF-8, not terminated, zero where unused.
 * @value_length: Bytes of @value: at most 4096.
 * @value: UTF-8, not terminated, zero where unused.
 */
struct uaccel_common_attr_store_in {
	uint32_t path_length;
	char path[128];
	uint32_t value_length;
	char value[4096];
};
static_assert(sizeof(struct uaccel_common_attr_store_in) == 4232, "size");
static_assert(offsetof(struct uaccel_common_attr_store_in, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_store_in, path) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_store_in, value_length) == 132, "offset");
static_assert(offsetof(struct uaccel_common_attr_store_in, value) == 136, "offset");

/**
 * struct uaccel_common_attr_store_out - what UACCEL_COMMON_CMD_ATTR_STORE answers
 * @revision:
 */
struct uaccel_common_attr_store_out {
	uint64_t revision;
};
static_assert(sizeof(struct uaccel_common_attr_store_out) == 8, "size");
static_assert(offsetof(struct uaccel_common_attr_store_out, revision) == 0, "offset");

/**
 * struct uaccel_common_attr_watch_in - what UACCEL_COMMON_CMD_ATTR_WATCH takes
 * @path_length: Bytes of @path: at most 128.
 * @path: UTF-8, not terminated, zero where unused.
 * @reserved_132: Zero.
 * @after:
 */
struct uaccel_common_attr_watch_in {
	uint32_t path_length;
	char path[128];
	uint8_t reserved_132[4];
	uint64_t after;
};
static_assert(sizeof(struct uaccel_common_attr_watch_in) == 144, "size");
static_assert(offsetof(struct uaccel_common_attr_watch_in, path_length) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_in, path) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_in, reserved_132) == 132, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_in, after) == 136, "offset");

/* Values of UACCEL_COMMON_ATTR_WATCH_OUT_SCOPE. */
#define UACCEL_COMMON_ATTR_WATCH_OUT_SCOPE_STABLE UINT32_C(0)
#define UACCEL_COMMON_ATTR_WATCH_OUT_SCOPE_DEBUG UINT32_C(1)

/* Values of UACCEL_COMMON_ATTR_WATCH_OUT_TYPE. */
#define UACCEL_COMMON_ATTR_WATCH_OUT_TYPE_TEXT UINT32_C(0)
#define UACCEL_COMMON_ATTR_WATCH_OUT_TYPE_INTEGER UINT32_C(1)
#define UACCEL_COMMON_ATTR_WATCH_OUT_TYPE_NUMBER UINT32_C(2)
#define UACCEL_COMMON_ATTR_WATCH_OUT_TYPE_BOOLEAN UINT32_C(3)

/**
 * struct uaccel_common_attr_watch_out - what UACCEL_COMMON_CMD_ATTR_WATCH answers
 * @mode:
 * @reserved_2: Zero.
 * @scope: One of UACCEL_COMMON_ATTR_WATCH_OUT_SCOPE_*.
 * @type: One of UACCEL_COMMON_ATTR_WATCH_OUT_TYPE_*.
 * @unit_length: Bytes of @unit: at most 16.
 * @unit: UTF-8, not terminated, zero where unused.
 * @revision:
 * @value_length: Bytes of @value: at most 4096.
 * @value: UTF-8, not terminated, zero where unused.
 * @reserved_4140: Zero.
 */
struct uaccel_common_attr_watch_out {
	uint16_t mode;
	uint8_t reserved_2[2];
	uint32_t scope;
	uint32_t type;
	uint32_t unit_length;
	char unit[16];
	uint64_t revision;
	uint32_t value_length;
	char value[4096];
	uint8_t reserved_4140[4];
};
static_assert(sizeof(struct uaccel_common_attr_watch_out) == 4144, "size");
static_assert(offsetof(struct uaccel_common_attr_watch_out, mode) == 0, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, reserved_2) == 2, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, scope) == 4, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, type) == 8, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, unit_length) == 12, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, unit) == 16, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, revision) == 32, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, value_length) == 40, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, value) == 44, "offset");
static_assert(offsetof(struct uaccel_common_attr_watch_out, reserved_4140) == 4140, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_COMMON_UAPI_H */
