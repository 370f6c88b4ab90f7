/*
 * A client of a node in C, with nothing but the C library: opens an edu device, asks who it is, and has it compute a factorial.
 * docs/protocol.md. The structures are those that the uAPIs lay out: little-endian, naturally aligned.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HELLO = 1, REQUEST = 2, REPLY = 3 };
enum { COMMON_INFO = 0x01, EDU_FACTORIAL = 0x40 };

struct header { uint32_t length, id; uint16_t kind, fds; uint32_t code, timeoutMs, reserved; };
struct name32 { uint32_t length; char text[32]; };
struct hello { uint32_t protocol; struct name32 uapi; uint32_t version, commonVersion; struct name32 digest; };
struct error { uint32_t errnoLength; char errnoName[16]; struct name32 syscall; uint32_t length; char message[1024]; };
struct info {
  struct name32 node, driver;
  uint32_t transportLength; char transport[16];
  uint32_t addressLength; char address[256];
  uint32_t taintedLength; char tainted[256];
  uint32_t emulated, bus; uint16_t vendor, device; uint32_t classCode;
};

static void readAll(int fd, void *into, size_t size) {
  for (size_t got = 0; got < size;) {
    ssize_t n = read(fd, (char *)into + got, size - got);
    if (n <= 0) { fprintf(stderr, "the server is gone\n"); exit(1); }
    got += n;
  }
}

/* Sends one message and waits for its answer; one request at a time needs no id of its own. */
static size_t ask(int fd, uint16_t kind, uint32_t code, const void *in, size_t inSize, void *out, size_t outSize) {
  static char answer[1 << 20];
  struct header header = { .length = sizeof header + inSize, .kind = kind, .code = code, .timeoutMs = 0 };
  memcpy(answer, &header, sizeof header);
  memcpy(answer + sizeof header, in, inSize);
  if (write(fd, answer, header.length) != (ssize_t)header.length) { perror("write"); exit(1); }
  readAll(fd, &header, sizeof header);
  size_t size = header.length - sizeof header;
  if (size > sizeof answer) { fprintf(stderr, "an answer of %zu bytes\n", size); exit(1); }
  readAll(fd, answer, size);
  if (header.code != 0) {
    struct error *error = (struct error *)answer;
    fprintf(stderr, "error %u: %.*s\n", header.code, (int)error->length, error->message);
    exit(2);
  }
  /* A newer server says more, an older one less. */
  memset(out, 0, outSize);
  memcpy(out, answer, size < outSize ? size : outSize);
  return size;
}

int main(int argc, char **argv) {
  if (argc != 3) { fprintf(stderr, "usage: %s SOCKET N\n", argv[0]); return 64; }
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) { perror(argv[1]); return 1; }

  struct hello hello = { .protocol = 1, .uapi = { 3, "edu" }, .version = 1, .commonVersion = 1 }, server;
  ask(fd, HELLO, 0, &hello, sizeof hello, &server, sizeof server);

  struct info info;
  ask(fd, REQUEST, COMMON_INFO, NULL, 0, &info, sizeof info);
  printf("%.*s %.*s %04x:%04x\n", (int)info.node.length, info.node.text, (int)info.driver.length, info.driver.text,
         info.vendor, info.device);

  uint32_t n = strtoul(argv[2], NULL, 10), value;
  ask(fd, REQUEST, EDU_FACTORIAL, &n, sizeof n, &value, sizeof value);
  printf("%u! = %u\n", n, value);
  return 0;
}
