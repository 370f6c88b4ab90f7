/* Layouts and numbers of NVM Express (base specification 1.4) that the NVMe programs share. Little-endian. */
#ifndef UACCEL_BENCH_NVME_H
#define UACCEL_BENCH_NVME_H

#include <stdint.h>

#define PAGE 4096
/* Doorbells: a page of BAR 0, two of 32 bits for each queue pair (3.1.24, CAP.DSTRD 0). */
#define DOORBELLS 0x1000

/* Controller registers (3.1). */
enum { CAP = 0x00, VS = 0x08, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
#define CC_ENABLE 1u
#define CC_SHUTDOWN (3u << 14)
#define CC_SHUTDOWN_NORMAL (1u << 14)
#define CC_ENTRY_SIZES (6u << 16 | 4u << 20) /* 2^6 and 2^4 bytes */
#define CSTS_READY 1u
#define CSTS_FATAL 2u
#define CSTS_SHUTDOWN_COMPLETE (2u << 2)

/* Opcodes (5, 6). */
enum {
	DELETE_SQ = 0x00,
	CREATE_SQ = 0x01,
	GET_LOG_PAGE = 0x02,
	DELETE_CQ = 0x04,
	CREATE_CQ = 0x05,
	IDENTIFY = 0x06,
	ABORT = 0x08,
	SET_FEATURES = 0x09,
	GET_FEATURES = 0x0a,
	ASYNC_EVENT = 0x0c,
};
enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02, COMPARE = 0x05 };
#define NUMBER_OF_QUEUES 0x07 /* a feature */

/* A submission queue entry (4.2). Word 0 is the opcode, with the command's identifier (CID) in the upper half; 6 to 9 name memory. */
struct command {
	uint32_t words[16];
};

/* A completion queue entry (4.6). */
struct completion {
	uint32_t result, reserved;
	uint32_t head; /* of the submission queue, whose number is in the upper half */
	uint32_t last; /* CID, phase at bit 16, status from bit 17 on */
};
#define PHASE (1u << 16)

#endif
