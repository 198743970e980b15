// SPDX-License-Identifier: GPL-2.0
#include "groups.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pins.h"
#include "sysroot.h"

#define GROUPS	"/sys/kernel/iommu_groups"

struct device {
	char *name;	/* a PCI address, or another bus's name */
	char *driver;	/* NULL: none */
	char *cdev;	/* its file for iommufd; NULL: none */
	bool pci;
	unsigned int class;	/* base class of PCI */
};

struct candidate {
	long number;
	bool emulated;	/* it stands for no IOMMU */
	struct device *devices;
	size_t nr;
};

/* Base classes of PCI */
enum { STORAGE = 1, NETWORK = 2, DISPLAY = 3, BRIDGE = 6 };

static char *link_name(const char *path)
{
	char target[512], *slash;
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	if (len < 0)
		return NULL;
	target[len] = '\0';
	slash = strrchr(target, '/');
	return xstrdup(slash ? slash + 1 : target);
}

/* The first name in a folder; NULL if there is none */
static char *first_name(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char *name = NULL;

	while (dir && !name && (entry = readdir(dir)))
		if (*entry->d_name != '.')
			name = xstrdup(entry->d_name);
	if (dir)
		closedir(dir);
	return name;
}

static struct device device_read(long group, const char *name)
{
	char *dir = xasprintf(GROUPS "/%ld/devices/%s", group, name), *path, *text, *cdev;
	struct device d = { .name = xstrdup(name) };

	path = xasprintf("%s/driver", dir);
	d.driver = link_name(path);
	free(path);
	path = xasprintf("%s/subsystem", dir);
	text = link_name(path);
	d.pci = text && !strcmp(text, "pci");
	free(text);
	free(path);
	text = sysroot_read(NULL, "%s/class", dir);
	if (d.pci && text)
		d.class = strtoul(text, NULL, 16) >> 16;
	free(text);
	path = xasprintf("%s/vfio-dev", dir);
	cdev = first_name(path);
	if (cdev)
		d.cdev = xasprintf("/dev/vfio/devices/%s", cdev);
	free(cdev);
	free(path);
	free(dir);
	return d;
}

static int by_address(const void *a, const void *b)
{
	const struct device *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static struct candidate candidate_read(long number)
{
	struct candidate c = { .number = number };
	struct dirent *entry;
	char *path, *text;
	DIR *dir;

	/* The kernel names groups so that it makes for devices without an IOMMU */
	text = sysroot_read(NULL, GROUPS "/%ld/name", number);
	c.emulated = text && !strcmp(text, "vfio-noiommu\n");
	free(text);

	path = xasprintf(GROUPS "/%ld/devices", number);
	dir = opendir(path);
	free(path);
	while (dir && (entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		c.devices = reallocarray(c.devices, c.nr + 1, sizeof(*c.devices));
		if (!c.devices)
			err(2, "no memory");
		c.devices[c.nr++] = device_read(number, entry->d_name);
	}
	if (dir)
		closedir(dir);
	if (c.nr)
		qsort(c.devices, c.nr, sizeof(*c.devices), by_address);
	return c;
}

static int by_number(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static size_t candidates_read(struct candidate **list)
{
	DIR *dir = opendir(GROUPS);
	struct dirent *entry;
	uint64_t number;
	size_t nr = 0;

	while (dir && (entry = readdir(dir))) {
		if (!parse_number(entry->d_name, &number) || number > INT32_MAX)
			continue;
		*list = reallocarray(*list, nr + 1, sizeof(**list));
		if (!*list)
			err(2, "no memory");
		(*list)[nr++] = candidate_read(number);
	}
	if (dir)
		closedir(dir);
	if (nr)
		qsort(*list, nr, sizeof(**list), by_number);
	return nr;
}

static char *devices_text(const struct candidate *c)
{
	char *text = xstrdup(""), *more;
	size_t i;

	for (i = 0; i < c->nr; i++) {
		more = xasprintf("%s%s%s (%s)", text, i ? ", " : "", c->devices[i].name,
				 c->devices[i].driver ?: "no driver");
		free(text);
		text = more;
	}
	return text;
}

static bool is_vfio(const struct device *d)
{
	return d->driver && strstr(d->driver, "vfio");
}

/* Beside drivers of VFIO, these leave a group to its user: they do no DMA */
static bool in_the_way(const struct device *d)
{
	return d->driver && !is_vfio(d) && strcmp(d->driver, "pcieport") &&
	       strcmp(d->driver, "pci-stub");
}

static bool opens(const struct candidate *c, const char *file)
{
	char *path = xasprintf("/dev/vfio/%ld", c->number);
	bool same = !strcmp(path, file);
	size_t i;

	free(path);
	for (i = 0; !same && i < c->nr; i++)
		same = c->devices[i].cdev && !strcmp(c->devices[i].cdev, file);
	return same;
}

/* "process 812 (qemu-system-x86)", as far as we may see it */
static char *user_of(const struct candidate *c)
{
	DIR *proc = opendir("/proc"), *dir;
	struct dirent *entry, *fd;
	char *found = NULL, *path, *comm;
	char target[64];
	uint64_t pid;
	ssize_t len;

	while (proc && !found && (entry = readdir(proc))) {
		if (!parse_number(entry->d_name, &pid))
			continue;
		path = xasprintf("/proc/%s/fd", entry->d_name);
		dir = opendir(path);
		free(path);
		while (dir && !found && (fd = readdir(dir))) {
			len = readlinkat(dirfd(dir), fd->d_name, target, sizeof(target) - 1);
			target[len > 0 ? len : 0] = '\0';
			if (!opens(c, target))
				continue;
			comm = sysroot_read(NULL, "/proc/%s/comm", entry->d_name);
			path = comm ? escape(comm, strcspn(comm, "\n")) : xstrdup("?");
			found = xasprintf("process %s (%s)", entry->d_name, path);
			free(path);
			free(comm);
		}
		if (dir)
			closedir(dir);
	}
	if (proc)
		closedir(proc);
	return found ?: xstrdup("another process");
}

static char *drivers_in_the_way(const struct candidate *c)
{
	char *text = xstrdup(""), *more;
	size_t i;

	for (i = 0; i < c->nr; i++) {
		if (!in_the_way(&c->devices[i]))
			continue;
		more = xasprintf("%s%s%s is bound to %s", text, *text ? ", " : "",
				 c->devices[i].name, c->devices[i].driver);
		free(text);
		text = more;
	}
	if (*text)
		return text;
	free(text);
	return NULL;
}

/* Open it; the reason if that fails, and *@fd is -1 then */
static char *open_group(const struct candidate *c, int *fd)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char *path, *why, *user;
	bool vfio = false;
	size_t i;

	*fd = -1;
	if (c->emulated) {
		path = xasprintf("/dev/vfio/noiommu-%ld", c->number);
		why = xstrdup(access(path, F_OK) ?
			      "belongs to a mediated device: its driver pins, not a mapping" :
			      "is a noiommu group: there is no IOMMU, so a mapping pins nothing");
		free(path);
		return why;
	}
	why = drivers_in_the_way(c);
	if (why)
		return why;
	for (i = 0; i < c->nr; i++)
		vfio |= is_vfio(&c->devices[i]);
	if (!vfio) {
		path = devices_text(c);
		why = xasprintf("no device of it is bound to vfio-pci: %s", path);
		free(path);
		return why;
	}

	path = xasprintf("/dev/vfio/%ld", c->number);
	*fd = open(path, O_RDWR | O_CLOEXEC);
	if (*fd >= 0) {
		if (!ioctl(*fd, VFIO_GROUP_GET_STATUS, &status) &&
		    status.flags & VFIO_GROUP_FLAGS_VIABLE) {
			free(path);
			return NULL;
		}
		close(*fd);
		*fd = -1;
		why = xstrdup("not viable: the kernel has given it to another driver or user");
	} else if (errno == EBUSY) {
		user = user_of(c);
		why = xasprintf("in use by %s", user);
		free(user);
	} else if (errno == EACCES || errno == EPERM) {
		why = xasprintf("%s: %s; run it as root", path, strerror(errno));
	} else if (errno == ENOENT && !access("/dev/vfio/devices", F_OK)) {
		why = xstrdup("there are no groups: this kernel has VFIO by iommufd only (CONFIG_VFIO_GROUP is off)");
	} else {
		why = xasprintf("%s: %s", path, strerror(errno));
	}
	free(path);
	return why;
}

/* --- How to make one ------------------------------------------------------------- */

/* Would it have to change its driver? Bridges may stay as they are. */
static bool to_be_bound(const struct device *d)
{
	return d->pci && !is_vfio(d) && d->class != BRIDGE;
}

/* Is it the binding of its devices that keeps a group from us? */
static bool wrongly_bound(const struct candidate *c)
{
	size_t i, vfio = 0, others = 0;

	for (i = 0; i < c->nr; i++) {
		vfio += is_vfio(&c->devices[i]);
		others += in_the_way(&c->devices[i]);
	}
	return !c->emulated && (!vfio || others);
}

/* How little a host would miss its devices; 0: not to be named, nothing helps there */
static int dispensable(const struct candidate *c)
{
	int least = 0, grade;
	size_t i;

	if (!wrongly_bound(c))
		return 0;
	for (i = 0; i < c->nr; i++) {
		const struct device *d = &c->devices[i];

		if (in_the_way(d) && !to_be_bound(d))
			return 0;
		if (!to_be_bound(d))
			continue;
		grade = !d->driver ? 4 : d->class == STORAGE ? 1 :
			d->class == NETWORK || d->class == DISPLAY ? 2 : 3;
		least = !least || grade < least ? grade : least;
	}
	return least;
}

static void commands(const struct candidate *c, const char *fmt)
{
	const char *at;
	char *node;
	size_t i;

	for (i = 0; i < c->nr; i++) {
		const char *name = c->devices[i].name;

		if (!to_be_bound(&c->devices[i]))
			continue;
		node = xstrdup(name);
		while (strpbrk(node, ":."))
			*strpbrk(node, ":.") = '_';
		for (at = fmt; *at; at++)
			if (*at == '@' || *at == '%')
				fputs(*at == '@' ? name : node, stderr);
			else
				fputc(*at, stderr);
		free(node);
	}
}

/* @: the address, %: the same as libvirt writes it */
static void how_to(const struct candidate *c)
{
	fprintf(stderr, "\nTo have group %ld for the test, by one of these, as root. Not if this host itself\n"
		"needs a device of it: the disk or the network that it runs from, the screen.\n", c->number);
	fputs("  driverctl\n", stderr);
	commands(c, "    driverctl --nosave set-override @ vfio-pci\n");
	commands(c, "    and back: driverctl --nosave unset-override @\n");
	fputs("  libvirt\n", stderr);
	commands(c, "    virsh nodedev-detach pci_%\n");
	commands(c, "    and back: virsh nodedev-reattach pci_%\n");
	fputs("  by hand (and back: the same with `echo` for `echo vfio-pci`)\n    modprobe vfio-pci\n", stderr);
	commands(c, "    echo vfio-pci >/sys/bus/pci/devices/@/driver_override\n"
		 "    [ ! -e /sys/bus/pci/devices/@/driver ] || echo @ >/sys/bus/pci/devices/@/driver/unbind\n"
		 "    echo @ >/sys/bus/pci/drivers_probe\n");
}

static void none_at_all(void)
{
	errx(2, "no IOMMU group: this host has no IOMMU, or it is off. Turn it on in the firmware (VT-d, AMD-Vi), and for "
	     "Intel on the kernel's command line, too: intel_iommu=on");
}

/* --- Which -------------------------------------------------------------------------- */

static struct group take(const struct candidate *c, int fd)
{
	return (struct group){ .number = c->number, .devices = devices_text(c), .fd = fd };
}

static long parse_group(const char *which)
{
	const char *digits = !strncmp(which, "/dev/vfio/", 10) ? which + 10 : which;
	char *path, *name = NULL, *text;
	uint64_t number;

	if (parse_number(digits, &number) && number <= INT32_MAX)
		return number;
	if (!strchr(which, '/')) {
		path = xasprintf("/sys/bus/pci/devices/%s/iommu_group", which);
		name = link_name(path);
		free(path);
		path = xasprintf("/sys/bus/pci/devices/%s", which);
		if (!name && *which && !access(path, F_OK))
			errx(2, "PCI device %s has no IOMMU group: this host has no IOMMU, or it is off", which);
		free(path);
	}
	if (!name || !parse_number(name, &number)) {
		text = escape(which, strlen(which));
		errx(2, "'%s' is no group: a number, /dev/vfio/NUMBER, or the address of a PCI device, such as 0000:01:00.0",
		     text);
	}
	free(name);
	return number;
}

struct group group_take(const char *which)
{
	struct candidate *list = NULL, *best = NULL;
	size_t nr, i, at = 0;
	char *why = NULL;
	int fd;

	if (which) {
		long number = parse_group(which);

		nr = candidates_read(&list);
		while (at < nr && list[at].number != number)
			at++;
		if (at == nr) {
			if (!nr)
				none_at_all();
			errx(2, "no group %ld (there are: ls " GROUPS ")", number);
		}
		why = open_group(&list[at], &fd);
		if (!why)
			return take(&list[at], fd);
		warnx("group %ld: %s", number, why);
		if (dispensable(&list[at]))
			how_to(&list[at]);
		exit(2);
	}

	nr = candidates_read(&list);
	if (!nr)
		none_at_all();
	for (i = 0; i < nr; i++) {
		why = open_group(&list[i], &fd);
		if (!why)
			return take(&list[i], fd);
		free(why);
	}
	warnx("no IOMMU group can be used:");
	for (i = 0; i < nr; i++) {
		why = open_group(&list[i], &fd);
		if (fd >= 0)
			close(fd);
		fprintf(stderr, "  group %ld: %s\n", list[i].number, why ?: "in use a moment ago");
		free(why);
		if (dispensable(&list[i]) > (best ? dispensable(best) : 0))
			best = &list[i];
	}
	if (best) {
		how_to(best);
		fputs("The commands for another group: pinstat selftest GROUP\n", stderr);
	}
	exit(2);
}
