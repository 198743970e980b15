// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a guest that a test starts in the VM, alone in its initramfs. What
 * it is to do stands on the kernel's command line, which the kernel passes on
 * as environment:
 *	read=nvme0n1,vda	wait for these disks, and print their checksums
 *	stay=1			then do what the console says: read DISK, or off
 *
 * It ends with a reboot: without ACPI's help, power off would hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_alg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB		(1UL << 20)
#define SHA256_LEN	32
/* How often to look for a disk: minutes at least, more on a busy host */
#define LOOKS		12000

static int sha256(const void *data, size_t len, unsigned char *sum)
{
	struct sockaddr_alg addr = {
		.salg_family = AF_ALG,
		.salg_type = "hash",
		.salg_name = "sha256",
	};
	int alg, op, ret = -1;
	ssize_t n;

	alg = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (alg < 0)
		return -1;
	if (bind(alg, (struct sockaddr *)&addr, sizeof(addr)))
		goto out;
	op = accept(alg, NULL, NULL);
	if (op < 0)
		goto out;
	while (len) {
		n = send(op, data, len < MB ? len : MB, MSG_MORE);
		if (n <= 0)
			goto out_op;
		data += n;
		len -= n;
	}
	if (read(op, sum, SHA256_LEN) == SHA256_LEN)
		ret = 0;
out_op:
	close(op);
out:
	close(alg);
	return ret;
}

/* All of it at once, so that the DMA goes to many pages */
static const char *checksum(int fd, uint64_t size, unsigned char *sum)
{
	const char *bad = NULL;
	uint64_t at;
	ssize_t n;
	char *buf;

	buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		return "no memory";
	for (at = 0; at < size; at += n) {
		n = pread(fd, buf + at, size - at < MB ? size - at : MB, at);
		if (n <= 0) {
			bad = "cannot be read";
			break;
		}
	}
	if (!bad && sha256(buf, size, sum))
		bad = "no checksum";
	munmap(buf, size);
	return bad;
}

static void say_iommu(const char *disk)
{
	char path[128], type[16] = "none";
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/block/%s/device/device/iommu_group/type", disk);
	f = fopen(path, "re");
	if (f) {
		if (fscanf(f, "%15s", type) != 1)
			strcpy(type, "unknown");
		fclose(f);
	}
	printf("guest: %s iommu %s\n", disk, type);
}

static void read_disk(const char *disk)
{
	unsigned char sum[SHA256_LEN];
	const char *bad = NULL;
	char path[64];
	uint64_t size;
	unsigned int i;
	int fd, look;

	snprintf(path, sizeof(path), "/dev/%s", disk);
	for (look = 0; look < LOOKS; look++) {
		fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			break;
		usleep(50000);
	}
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
		bad = strerror(errno);
	else
		bad = checksum(fd, size, sum);
	if (bad) {
		printf("guest: %s failed: %s\n", disk, bad);
	} else {
		say_iommu(disk);
		printf("guest: %s %llu bytes sha256 ", disk,
		       (unsigned long long)size);
		for (i = 0; i < SHA256_LEN; i++)
			printf("%02x", sum[i]);
		putchar('\n');
	}
	if (fd >= 0)
		close(fd);
}

static void obey(void)
{
	char line[80], disk[32];

	printf("guest: ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "read %31s", disk) == 1)
			read_disk(disk);
		else if (!strncmp(line, "off", 3))
			break;
	}
}

static void mount_at(const char *type, const char *path)
{
	mkdir(path, 0755);
	if (mount(type, path, type, 0, NULL) && errno != EBUSY)
		printf("guest: %s cannot be mounted: %s\n", path, strerror(errno));
}

int main(void)
{
	char *list = getenv("read"), *disk;

	setlinebuf(stdout);
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");

	while ((disk = strsep(&list, ",")))
		read_disk(disk);
	if (getenv("stay"))
		obey();
	printf("guest: done\n");
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	return 1;
}
