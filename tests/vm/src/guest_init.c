// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a guest that a test starts in the VM, alone in its initramfs. What
 * it is to do stands on the kernel's command line, which the kernel passes on
 * as environment:
 *	read=nvme0n1,vda	wait for these disks, and print their checksums
 *	share=TAG		mount this virtiofs, print the checksum of its file
 *				data, and write it to its file sum
 *	pin_pci=1		have the device of tests/vm/modules/pin_pci.c pin
 *				a page, and look at what it did to it
 *	stay=1			then do what the console says: read DISK, or off
 *
 * It ends with a reboot: without ACPI's help, power off would hang.
 */
#include <dirent.h>
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

#include "../modules/pin_pci.h"

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
		/* The node comes first, and then what is behind it */
		if (fd >= 0 || (errno != ENOENT && errno != ENXIO))
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

static void read_share(const char *tag)
{
	unsigned char sum[SHA256_LEN];
	const char *bad = NULL;
	char text[2 * SHA256_LEN + 1];
	struct stat st;
	unsigned int i;
	int fd, out;

	mkdir("/share", 0755);
	if (mount(tag, "/share", "virtiofs", 0, NULL)) {
		printf("guest: %s cannot be mounted: %s\n", tag, strerror(errno));
		return;
	}
	fd = open("/share/data", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		bad = strerror(errno);
	else
		bad = checksum(fd, st.st_size, sum);
	if (fd >= 0)
		close(fd);
	if (bad) {
		printf("guest: %s failed: %s\n", tag, bad);
		return;
	}
	for (i = 0; i < SHA256_LEN; i++)
		sprintf(text + 2 * i, "%02x", sum[i]);
	out = open("/share/sum", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (out < 0 || write(out, text, strlen(text)) != (ssize_t)strlen(text))
		printf("guest: %s cannot be written: %s\n", tag, strerror(errno));
	if (out >= 0)
		close(out);
	printf("guest: %s %lld bytes sha256 %s\n", tag, (long long)st.st_size, text);
}

/* A file of the first such device; -1 without one */
static int pci_open(unsigned int vendor, unsigned int device, const char *file)
{
	static const char base[] = "/sys/bus/pci/devices";
	unsigned int v, d;
	struct dirent *e;
	char path[320];
	int fd = -1;
	FILE *f;
	DIR *dir;

	dir = opendir(base);
	while (dir && fd < 0 && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s/uevent", base, e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		while (fgets(path, sizeof(path), f))
			if (sscanf(path, "PCI_ID=%x:%x", &v, &d) == 2 && v == vendor && d == device) {
				snprintf(path, sizeof(path), "%s/%s/%s", base, e->d_name, file);
				fd = open(path, O_RDWR | O_CLOEXEC);
				break;
			}
		fclose(f);
	}
	if (dir)
		closedir(dir);
	return fd;
}

static uint64_t physical(const void *page)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (uintptr_t)page / 4096 * 8) != sizeof(entry))
		entry = 0;
	if (fd >= 0)
		close(fd);
	return (entry & ((1UL << 55) - 1)) * 4096;
}

static void drive_pin_pci(void)
{
	int config = pci_open(PIN_PCI_VENDOR, PIN_PCI_DEVICE, "config");
	int bar = pci_open(PIN_PCI_VENDOR, PIN_PCI_DEVICE, "resource0");
	uint16_t memory = 2;
	volatile char *regs;
	unsigned char *page;
	unsigned int i, wrong = 0;
	int32_t state;

	if (config < 0 || bar < 0 || pwrite(config, &memory, 2, 4) != 2) {
		printf("guest: pin_pci failed: %s\n", strerror(errno));
		return;
	}
	regs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (regs == MAP_FAILED || page == MAP_FAILED) {
		printf("guest: pin_pci failed: %s\n", strerror(errno));
		return;
	}
	for (i = 0; i < 4096; i++)
		page[i] = i * 7;
	*(volatile uint64_t *)(regs + PIN_PCI_ADDRESS) = physical(page);
	state = *(volatile uint32_t *)(regs + PIN_PCI_STATE);
	for (i = 0; i < 4096; i++)
		wrong += page[i] != (unsigned char)~(i * 7);
	printf("guest: pin_pci state %d, %u bytes wrong\n", state, wrong);
	close(config);
	close(bar);
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
	char *list = getenv("read"), *tag = getenv("share"), *disk;

	setlinebuf(stdout);
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");

	while ((disk = strsep(&list, ",")))
		read_disk(disk);
	if (tag)
		read_share(tag);
	if (getenv("pin_pci"))
		drive_pin_pci();
	if (getenv("stay"))
		obey();
	printf("guest: done\n");
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	return 1;
}
