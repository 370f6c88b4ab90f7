/* Answers each request of one client with the same bytes: as many as one read brought, in one write. */
#include "node.h"

int main(int argc, char **argv)
{
	struct sockaddr_un address = address_of(argc > 1 ? argv[1] : "");
	static char in[WINDOW * REQUEST_BYTES], out[WINDOW * REPLY_BYTES];
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	size_t held = 0;
	ssize_t size;

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0)
		fail(argv[1]);
	puts("ready");
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		fail("accept");
	while ((size = read(fd, in, sizeof(in) - held)) > 0) {
		held += size;
		if (held >= REQUEST_BYTES)
			send_all(fd, out, held / REQUEST_BYTES * REPLY_BYTES);
		held %= REQUEST_BYTES;
	}
	return 0;
}
