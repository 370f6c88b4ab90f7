/*
 * uAPI of common, version 2. Made from its definition by `uaccel uapi`: do not edit.
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

#define UACCEL_COMMON_UAPI_VERSION 2

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_COMMON_UAPI_DIGEST \
	"\x47\x5a\x49\x13\x38\x72\x61\x60" \
	"\xcd\x47\xf1\xda\xa8\xef\xf0\xf1" \
	"\x77\x18\x06\x8a\x1a\x23\xe7\xcc" \
	"\xd6\x27\x99\x90\x48\xd5\x35\x78"

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

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_COMMON_UAPI_H */
