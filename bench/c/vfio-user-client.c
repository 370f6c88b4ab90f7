/* A vfio-user client: agrees on the version, enables the device, then reads four bytes of BAR 0 again and again. */
#include "vfio-user.h"

static int fd;
static uint16_t id;

static int request(uint16_t command, const void *payload, uint32_t size, void *reply, uint32_t room)
{
	struct header header = {.id = ++id, .command = command};
	int received;

	transmit(fd, header, payload, size);
	received = receive(fd, &header, reply, room);
	check(received >= 0 && header.id == id && header.command == command && header.flags == REPLY,
	      "vfio-user: the server refused, or left");
	return received;
}

static void run(long operations, double *out)
{
	const struct access access = {.region = 0, .offset = 0, .count = 4};
	struct {
		struct access access;
		uint32_t value;
	} reply;
	uint32_t sum = 0;
	uint64_t start = now_ns();

	for (long i = 0; i < operations; i++) {
		check(request(REGION_READ, &access, sizeof(access), &reply, sizeof(reply)) == sizeof(access) + 4,
		      "vfio-user: a REGION_READ reply of a wrong size");
		sum += reply.value;
	}
	out[0] = (now_ns() - start) / 1000.0 / operations;
	check(sum == (uint32_t)operations * ID_VALUE, "vfio-user: wrong sum");
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = address_of(argc > 1 ? argv[1] : "");
	char offer[4 + sizeof(capabilities)] = {0}, answer[512];
	/* memory decoding, in the command register (PCI 3.0, 6.2.2) */
	const struct {
		struct access access;
		uint16_t value;
	} enable = {{.region = 7, .offset = 4, .count = 2}, 2};

	offer[2] = 1; /* version 0.1 */
	memcpy(offer + 4, capabilities, sizeof(capabilities));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(argv[1]);
	request(VERSION, offer, sizeof(offer), answer, sizeof(answer));
	request(REGION_WRITE, &enable, sizeof(enable.access) + sizeof(enable.value), answer, sizeof(answer));
	return serve(run, 1);
}
