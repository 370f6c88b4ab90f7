/*
 * uAPI of virtio-crypto, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_VIRTIO_CRYPTO_UAPI_H
#define UACCEL_VIRTIO_CRYPTO_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_VIRTIO_CRYPTO_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_VIRTIO_CRYPTO_UAPI_DIGEST \
	"\xf3\x21\x47\xd2\xfa\xec\xfc\xbd" \
	"\xa3\xdc\x18\x21\xae\xc6\xa1\xcd" \
	"\xf3\xd0\xd5\x54\xf2\xec\xa5\x1d" \
	"\x95\xd2\xa1\x7a\x0d\x1e\x97\xcf"

/*
 * What the device offers, from its configuration; bits have the numbers of virtio's algorithms.
 */
#define UACCEL_VIRTIO_CRYPTO_CMD_IDENTIFY 0x0040

/*
 * Makes a session for one direction of a cipher. It belongs to the open and goes with it, or
 * with a reset.
 */
#define UACCEL_VIRTIO_CRYPTO_CMD_CREATE_CIPHER_SESSION 0x0041

/* Makes a session for a hash. */
#define UACCEL_VIRTIO_CRYPTO_CMD_CREATE_HASH_SESSION 0x0042

/* Makes a session for a MAC. */
#define UACCEL_VIRTIO_CRYPTO_CMD_CREATE_MAC_SESSION 0x0043

/* Gives a session back, once its operations have ended. */
#define UACCEL_VIRTIO_CRYPTO_CMD_DESTROY_SESSION 0x0044

/* Encrypts or decrypts, as the session says. */
#define UACCEL_VIRTIO_CRYPTO_CMD_CIPHER 0x0045

/* The hash or MAC of a message. */
#define UACCEL_VIRTIO_CRYPTO_CMD_DIGEST 0x0046

/*
 * Makes a session for one use of an RSA key, with the padding of PKCS #1 v1.5 (RFC 8017, 7.2
 * and 8.2).
 */
#define UACCEL_VIRTIO_CRYPTO_CMD_CREATE_RSA_SESSION 0x0047

/* Encrypts, decrypts or signs, as the session says. */
#define UACCEL_VIRTIO_CRYPTO_CMD_RSA 0x0048

/* Whether a signature is that of a digest. */
#define UACCEL_VIRTIO_CRYPTO_CMD_RSA_VERIFY 0x0049

/**
 * struct uaccel_virtio_crypto_identify_out - what UACCEL_VIRTIO_CRYPTO_CMD_IDENTIFY answers
 * @ready: Whether its hardware is ready. 0 or 1.
 * @reserved_1: Zero.
 * @data_queues: Data queues that it has.
 * @services: Bit n: service n (0 ciphers, 1 hashes, 2 MACs, 3 AEAD, 4 asymmetric ciphers).
 * @reserved_12: Zero.
 * @ciphers: Bit n: cipher n.
 * @hashes: Bit n: hash n.
 * @macs: Bit n: MAC n.
 * @max_cipher_key_bytes: The longest key of a cipher.
 * @max_mac_key_bytes: The longest key of a MAC.
 * @max_request_bytes: The most that the variable parts of one request may have together.
 * @features: What was agreed on with the device, as virtio numbers features.
 * @asymmetric: Bit n: asymmetric cipher n (1 RSA, 2 DSA, 3 ECDSA).
 * @reserved_68: Zero.
 */
struct uaccel_virtio_crypto_identify_out {
	uint8_t ready;
	uint8_t reserved_1[3];
	uint32_t data_queues;
	uint32_t services;
	uint8_t reserved_12[4];
	uint64_t ciphers;
	uint64_t hashes;
	uint64_t macs;
	uint32_t max_cipher_key_bytes;
	uint32_t max_mac_key_bytes;
	uint64_t max_request_bytes;
	uint64_t features;
	uint32_t asymmetric;
	uint8_t reserved_68[4];
};
static_assert(sizeof(struct uaccel_virtio_crypto_identify_out) == 72, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, ready) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, reserved_1) == 1, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, data_queues) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, services) == 8, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, ciphers) == 16, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, hashes) == 24, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, macs) == 32, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, max_cipher_key_bytes) == 40, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, max_mac_key_bytes) == 44, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, max_request_bytes) == 48, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, features) == 56, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, asymmetric) == 64, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_identify_out, reserved_68) == 68, "offset");

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_NONE UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_AES_ECB UINT32_C(2)
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_AES_CBC UINT32_C(3)
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_AES_CTR UINT32_C(4)
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_AES_XTS UINT32_C(13)

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_DIRECTION. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_DIRECTION_ENCRYPT UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_DIRECTION_DECRYPT UINT32_C(1)

/**
 * struct uaccel_virtio_crypto_create_cipher_session_in - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_CIPHER_SESSION takes
 * @algorithm: The cipher. One of UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_ALGORITHM_*.
 * @direction: What operations of the session do. One of
 *	UACCEL_VIRTIO_CRYPTO_CREATE_CIPHER_SESSION_IN_DIRECTION_*.
 * @key_length: Bytes of @key: at most 64.
 * @key: 16, 24 or 32 bytes for AES; two keys of the same size for XTS. Zero where unused.
 */
struct uaccel_virtio_crypto_create_cipher_session_in {
	uint32_t algorithm;
	uint32_t direction;
	uint32_t key_length;
	uint8_t key[64];
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_cipher_session_in) == 76, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_cipher_session_in, algorithm) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_cipher_session_in, direction) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_cipher_session_in, key_length) == 8, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_cipher_session_in, key) == 12, "offset");

/**
 * struct uaccel_virtio_crypto_create_cipher_session_out - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_CIPHER_SESSION answers
 * @session: Names it in operations. A handle of a session; 0 is none.
 */
struct uaccel_virtio_crypto_create_cipher_session_out {
	uint32_t session;
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_cipher_session_out) == 4, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_cipher_session_out, session) == 0, "offset");

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_NONE UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_MD5 UINT32_C(1)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA1 UINT32_C(2)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA224 UINT32_C(3)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA256 UINT32_C(4)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA384 UINT32_C(5)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA512 UINT32_C(6)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA3224 UINT32_C(7)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA3256 UINT32_C(8)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA3384 UINT32_C(9)
#define UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_SHA3512 UINT32_C(10)

/**
 * struct uaccel_virtio_crypto_create_hash_session_in - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_HASH_SESSION takes
 * @algorithm: The hash. One of UACCEL_VIRTIO_CRYPTO_CREATE_HASH_SESSION_IN_ALGORITHM_*.
 */
struct uaccel_virtio_crypto_create_hash_session_in {
	uint32_t algorithm;
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_hash_session_in) == 4, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_hash_session_in, algorithm) == 0, "offset");

/**
 * struct uaccel_virtio_crypto_create_hash_session_out - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_HASH_SESSION answers
 * @session: Names it in operations. A handle of a session; 0 is none.
 */
struct uaccel_virtio_crypto_create_hash_session_out {
	uint32_t session;
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_hash_session_out) == 4, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_hash_session_out, session) == 0, "offset");

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_NONE UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_MD5 UINT32_C(1)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_SHA1 UINT32_C(2)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_SHA224 UINT32_C(3)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_SHA256 UINT32_C(4)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_SHA384 UINT32_C(5)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_HMAC_SHA512 UINT32_C(6)
#define UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_CMAC_AES UINT32_C(26)

/**
 * struct uaccel_virtio_crypto_create_mac_session_in - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_MAC_SESSION takes
 * @algorithm: The MAC. One of UACCEL_VIRTIO_CRYPTO_CREATE_MAC_SESSION_IN_ALGORITHM_*.
 * @key_length: Bytes of @key: at most 512.
 * @key: The key. Zero where unused.
 */
struct uaccel_virtio_crypto_create_mac_session_in {
	uint32_t algorithm;
	uint32_t key_length;
	uint8_t key[512];
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_mac_session_in) == 520, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_mac_session_in, algorithm) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_mac_session_in, key_length) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_mac_session_in, key) == 8, "offset");

/**
 * struct uaccel_virtio_crypto_create_mac_session_out - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_MAC_SESSION answers
 * @session: Names it in operations. A handle of a session; 0 is none.
 */
struct uaccel_virtio_crypto_create_mac_session_out {
	uint32_t session;
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_mac_session_out) == 4, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_mac_session_out, session) == 0, "offset");

/**
 * struct uaccel_virtio_crypto_destroy_session_in - what
 * UACCEL_VIRTIO_CRYPTO_CMD_DESTROY_SESSION takes
 * @session: The session. A handle of a session; 0 is none.
 */
struct uaccel_virtio_crypto_destroy_session_in {
	uint32_t session;
};
static_assert(sizeof(struct uaccel_virtio_crypto_destroy_session_in) == 4, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_destroy_session_in, session) == 0, "offset");

/**
 * struct uaccel_virtio_crypto_cipher_in - what UACCEL_VIRTIO_CRYPTO_CMD_CIPHER takes
 * @session: A session of a cipher. A handle of a session; 0 is none.
 * @iv_length: Bytes of @iv: at most 16.
 * @iv: Initialization vector or counter: 16 bytes, none with ECB. Zero where unused.
 * @data_length: Bytes of @data: at most 4096.
 * @data: What is encrypted or decrypted: a multiple of the block size. Zero where unused.
 */
struct uaccel_virtio_crypto_cipher_in {
	uint32_t session;
	uint32_t iv_length;
	uint8_t iv[16];
	uint32_t data_length;
	uint8_t data[4096];
};
static_assert(sizeof(struct uaccel_virtio_crypto_cipher_in) == 4124, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_in, session) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_in, iv_length) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_in, iv) == 8, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_in, data_length) == 24, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_in, data) == 28, "offset");

/**
 * struct uaccel_virtio_crypto_cipher_out - what UACCEL_VIRTIO_CRYPTO_CMD_CIPHER answers
 * @data_length: Bytes of @data: at most 4096.
 * @data: As many bytes. Zero where unused.
 */
struct uaccel_virtio_crypto_cipher_out {
	uint32_t data_length;
	uint8_t data[4096];
};
static_assert(sizeof(struct uaccel_virtio_crypto_cipher_out) == 4100, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_out, data_length) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_cipher_out, data) == 4, "offset");

/**
 * struct uaccel_virtio_crypto_digest_in - what UACCEL_VIRTIO_CRYPTO_CMD_DIGEST takes
 * @session: A session of a hash or MAC. A handle of a session; 0 is none.
 * @data_length: Bytes of @data: at most 4096.
 * @data: The message. Zero where unused.
 */
struct uaccel_virtio_crypto_digest_in {
	uint32_t session;
	uint32_t data_length;
	uint8_t data[4096];
};
static_assert(sizeof(struct uaccel_virtio_crypto_digest_in) == 4104, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_digest_in, session) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_digest_in, data_length) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_digest_in, data) == 8, "offset");

/**
 * struct uaccel_virtio_crypto_digest_out - what UACCEL_VIRTIO_CRYPTO_CMD_DIGEST answers
 * @digest_length: Bytes of @digest: at most 64.
 * @digest: The digest. Zero where unused.
 */
struct uaccel_virtio_crypto_digest_out {
	uint32_t digest_length;
	uint8_t digest[64];
};
static_assert(sizeof(struct uaccel_virtio_crypto_digest_out) == 68, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_digest_out, digest_length) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_digest_out, digest) == 4, "offset");

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE_ENCRYPT UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE_DECRYPT UINT32_C(1)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE_SIGN UINT32_C(2)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE_VERIFY UINT32_C(3)

/* Values of UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH. */
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_NONE UINT32_C(0)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_MD5 UINT32_C(4)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_SHA1 UINT32_C(5)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_SHA256 UINT32_C(6)
#define UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_SHA512 UINT32_C(8)

/**
 * struct uaccel_virtio_crypto_create_rsa_session_in - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_RSA_SESSION takes
 * @use: What operations of the session do. One of
 *	UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_USE_*.
 * @hash: Of signatures. One of UACCEL_VIRTIO_CRYPTO_CREATE_RSA_SESSION_IN_HASH_*.
 * @key_length: Bytes of @key: at most 2560.
 * @key: DER-encoded RSAPublicKey of PKCS #1 to encrypt and verify, RSAPrivateKey to decrypt and
 *	sign. Zero where unused.
 */
struct uaccel_virtio_crypto_create_rsa_session_in {
	uint32_t use;
	uint32_t hash;
	uint32_t key_length;
	uint8_t key[2560];
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_rsa_session_in) == 2572, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_in, use) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_in, hash) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_in, key_length) == 8, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_in, key) == 12, "offset");

/**
 * struct uaccel_virtio_crypto_create_rsa_session_out - what
 * UACCEL_VIRTIO_CRYPTO_CMD_CREATE_RSA_SESSION answers
 * @session: Names it in operations. A handle of a session; 0 is none.
 * @modulus_bytes: Length of what is encrypted, and of signatures.
 */
struct uaccel_virtio_crypto_create_rsa_session_out {
	uint32_t session;
	uint32_t modulus_bytes;
};
static_assert(sizeof(struct uaccel_virtio_crypto_create_rsa_session_out) == 8, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_out, session) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_create_rsa_session_out, modulus_bytes) == 4, "offset");

/**
 * struct uaccel_virtio_crypto_rsa_in - what UACCEL_VIRTIO_CRYPTO_CMD_RSA takes
 * @session: A session of RSA that does not verify. A handle of a session; 0 is none.
 * @data_length: Bytes of @data: at most 512.
 * @data: A message, what was encrypted, or the digest that is signed. Zero where unused.
 */
struct uaccel_virtio_crypto_rsa_in {
	uint32_t session;
	uint32_t data_length;
	uint8_t data[512];
};
static_assert(sizeof(struct uaccel_virtio_crypto_rsa_in) == 520, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_in, session) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_in, data_length) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_in, data) == 8, "offset");

/**
 * struct uaccel_virtio_crypto_rsa_out - what UACCEL_VIRTIO_CRYPTO_CMD_RSA answers
 * @data_length: Bytes of @data: at most 512.
 * @data: The result. Zero where unused.
 */
struct uaccel_virtio_crypto_rsa_out {
	uint32_t data_length;
	uint8_t data[512];
};
static_assert(sizeof(struct uaccel_virtio_crypto_rsa_out) == 516, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_out, data_length) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_out, data) == 4, "offset");

/**
 * struct uaccel_virtio_crypto_rsa_verify_in - what UACCEL_VIRTIO_CRYPTO_CMD_RSA_VERIFY takes
 * @session: A session of RSA that verifies. A handle of a session; 0 is none.
 * @signature_length: Bytes of @signature: at most 512.
 * @signature: The signature. Zero where unused.
 * @digest_length: Bytes of @digest: at most 64.
 * @digest: The digest. Zero where unused.
 */
struct uaccel_virtio_crypto_rsa_verify_in {
	uint32_t session;
	uint32_t signature_length;
	uint8_t signature[512];
	uint32_t digest_length;
	uint8_t digest[64];
};
static_assert(sizeof(struct uaccel_virtio_crypto_rsa_verify_in) == 588, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_in, session) == 0, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_in, signature_length) == 4, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_in, signature) == 8, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_in, digest_length) == 520, "offset");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_in, digest) == 524, "offset");

/**
 * struct uaccel_virtio_crypto_rsa_verify_out - what UACCEL_VIRTIO_CRYPTO_CMD_RSA_VERIFY answers
 * @valid: Whether it is. 0 or 1.
 */
struct uaccel_virtio_crypto_rsa_verify_out {
	uint8_t valid;
};
static_assert(sizeof(struct uaccel_virtio_crypto_rsa_verify_out) == 1, "size");
static_assert(offsetof(struct uaccel_virtio_crypto_rsa_verify_out, valid) == 0, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_VIRTIO_CRYPTO_UAPI_H */
