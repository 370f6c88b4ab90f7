/* Makes memory of the size that the first argument names, and shares it with a process that maps it and writes a byte. */
#include "node.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int peer;
static size_t size;

static char *map(int fd)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

static void other(int fd)
{
	char byte;

	for (int passed; (passed = take(fd, &byte)) >= 0;) {
		char *memory = map(passed);

		memory[0] = byte;
		munmap(memory, size);
		close(passed);
		pass(fd, byte, -1);
	}
	exit(0);
}

static void run(long operations, double *out)
{
	uint64_t start = now_ns();

	for (long i = 0; i < operations; i++) {
		int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		char *memory, byte = (char)i | 1;

		if (fd < 0 || ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
			fail("memfd");
		memory = map(fd);
		pass(peer, byte, fd);
		check(take(peer, &byte) == -1 && memory[0] == byte, "share: the other process wrote something else");
		munmap(memory, size);
		close(fd);
	}
	out[0] = (now_ns() - start) / 1000.0 / operations;
}

int main(int argc, char **argv)
{
	int pair[2];

	size = argc > 1 ? strtoul(argv[1], NULL, 10) : 4096;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		fail("socketpair");
	switch (fork()) {
	case -1:
		fail("fork");
	case 0:
		close(pair[0]);
		other(pair[1]);
	}
	close(pair[1]);
	peer = pair[0];
	return serve(run, 1);
}
