// SPDX-License-Identifier: GPL-2.0
/* The command line of a QEMU */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "pins.h"
#include "props.h"
#include "sysroot.h"
#include "vm.h"

struct backend *vm_backend(struct vm *vm, char *name)
{
	struct backend *b;

	vm->backends = reallocarray(vm->backends, vm->nr + 1,
				    sizeof(*vm->backends));
	if (!vm->backends)
		err(2, "no memory");
	b = &vm->backends[vm->nr++];
	*b = (struct backend){ .name = name };
	return b;
}

void vm_free(struct vm *vm)
{
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		free(vm->backends[i].name);
		free(vm->backends[i].path);
	}
	free(vm->backends);
	free(vm->name);
	free(vm->emulator);
	free(vm->network);
	free(vm->source);
	*vm = (struct vm){ 0 };
}

bool policy_parse(enum policy *policy, const char *word)
{
	if (!strcmp(word, "auto"))
		*policy = POLICY_AUTO;
	else if (!strcmp(word, "on"))
		*policy = POLICY_ON;
	else if (!strcmp(word, "off"))
		*policy = POLICY_OFF;
	else
		return false;
	return true;
}

struct args {
	struct vm *vm;
	bool more;
	bool main;		/* RAM is one of the backends */
	const char *mem_path;
	uint64_t ram;
	char *wrong;
};

static struct pinners *pinners(struct args *a)
{
	return &a->vm->pinners[a->more];
}

static void wrong(struct args *a, const char *option, const char *value)
{
	size_t len = strnlen(value, 80);
	char *start = escape(value, len);

	if (!a->wrong)
		a->wrong = xasprintf("%s: not understood: %s%s", option, start,
				     value[len] ? "..." : "");
	free(start);
}

static void get_size(struct args *a, const struct props *p, const char *key,
		     char unit, uint64_t *size)
{
	const char *value = props_get(p, key);

	if (value && !parse_size(value, unit, size))
		wrong(a, key, value);
}

static struct backend *find_backend(struct args *a, const char *id)
{
	char *name = escape(id, strlen(id));
	struct backend *found = NULL;
	size_t i;

	for (i = 0; i < a->vm->nr; i++)
		if (!strcmp(a->vm->backends[i].name, name))
			found = &a->vm->backends[i];
	free(name);
	return found;
}

static void object(struct args *a, const struct props *p)
{
	const char *type = props_get(p, "qom-type") ?: "";
	const char *id = props_get(p, "id") ?: "";
	const char *path = props_get(p, "mem-path") ?: "";
	bool file = !strcmp(type, "memory-backend-file");
	bool memfd = !strcmp(type, "memory-backend-memfd");
	struct backend *b;

	if (!strcmp(type, "sev-guest"))
		a->vm->sev = true;
	if (!file && !memfd && strcmp(type, "memory-backend-ram") &&
	    strcmp(type, "memory-backend-shm"))
		return;
	b = vm_backend(a->vm, escape(id, strlen(id)));
	get_size(a, p, "size", 'B', &b->size);
	b->needed = b->size;
	b->kind = file ? BACKEND_FILE :
		  !strcmp(type, "memory-backend-ram") ? BACKEND_ANON :
							BACKEND_MEMFD;
	b->share = props_bool(p, "share", b->kind == BACKEND_MEMFD);
	b->readonly = props_bool(p, "readonly", false);
	b->hugetlb = props_bool(p, "hugetlb", false);
	if (file)
		b->path = xstrdup(path);
}

static void device(struct args *a, const struct props *p)
{
	const char *driver = props_get(p, "driver") ?: "";
	const char *memdev = props_get(p, "memdev");
	const char *sysfs = props_get(p, "sysfsdev");
	struct backend *b = memdev ? find_backend(a, memdev) : NULL;

	if (!strncmp(driver, "vfio-", 5)) {
		/* As libvirt and we name mediated devices */
		if (sysfs && strstr(sysfs, "/mdev/"))
			pinners(a)->mdev++;
		else if (props_get(p, "iommufd"))
			pinners(a)->iommufd++;
		else
			pinners(a)->vfio++;
	} else if (!strncmp(driver, "vhost-vdpa-device", 17)) {
		pinners(a)->vdpa++;
	} else if (!strcmp(driver, "x-pci-proxy-dev")) {
		a->vm->proxy = true;
	} else if (strstr(driver, "-iommu") || !strcmp(driver, "arm-smmuv3")) {
		a->vm->viommu[a->more] = true;
	}
	if (!b)
		return;
	if (!strcmp(driver, "nvdimm"))
		b->use = USE_NVDIMM;
	else if (!strncmp(driver, "virtio-pmem", 11))
		b->use = USE_VIRTIO_PMEM;
	else if (!strncmp(driver, "ivshmem", 7))
		b->use = USE_IVSHMEM;
	else if (!strncmp(driver, "virtio-mem", 10)) {
		b->use = USE_VIRTIO_MEM;
		b->needed = 0;
		get_size(a, p, "requested-size", 'B', &b->needed);
	}
}

static void machine(struct args *a, const struct props *p)
{
	const char *fallback = props_get(p, "ram-pin-fallback");
	const char *backend = props_get(p, "memory-backend");

	if (fallback) {
		a->vm->policy_set = true;
		if (!policy_parse(&a->vm->policy, fallback))
			wrong(a, "ram-pin-fallback", fallback);
	}
	if (backend && find_backend(a, backend))
		a->main = true;
	if (props_is(p, "iommu", "smmuv3"))
		a->vm->viommu[a->more] = true;
}

/* A drive on NVMe by VFIO, at any depth of its description */
static void drive(struct args *a, const struct props *p)
{
	size_t i, len;

	for (i = 0; i < p->nr; i++) {
		const char *key = p->list[i].key, *value = p->list[i].value;

		len = strlen(key);
		if ((len >= 6 && !strcmp(key + len - 6, "driver") &&
		     !strcmp(value, "nvme")) ||
		    (!strcmp(key, "file") && !strncmp(value, "nvme://", 7))) {
			pinners(a)->nvme++;
			return;
		}
	}
}

static void netdev(struct args *a, const struct props *p)
{
	if (props_is(p, "type", "vhost-vdpa"))
		pinners(a)->vdpa++;
}

static void numa(struct args *a, const struct props *p)
{
	const char *memdev = props_get(p, "memdev");

	if (memdev && find_backend(a, memdev))
		a->main = true;
}

static void memory(struct args *a, const struct props *p)
{
	/* MiB if there is no unit */
	get_size(a, p, "size", 'M', &a->ram);
}

static void overcommit(struct args *a, const struct props *p)
{
	if (props_bool(p, "mem-lock", false))
		a->vm->locked = true;
}

static void name(struct args *a, const struct props *p)
{
	const char *guest = props_get(p, "guest");

	if (guest && !a->more) {
		free(a->vm->name);
		a->vm->name = escape(guest, strlen(guest));
	}
}

static const struct option {
	const char *name, *first;
	unsigned int round;	/* backends first: others refer to them */
	void (*parse)(struct args *a, const struct props *p);
} options[] = {
	{ "object", "qom-type", 0, object },
	{ "m", "size", 0, memory },
	{ "machine", "type", 1, machine },
	{ "M", "type", 1, machine },
	{ "numa", "type", 1, numa },
	{ "device", "driver", 1, device },
	{ "blockdev", "driver", 1, drive },
	{ "drive", NULL, 1, drive },
	{ "netdev", "type", 1, netdev },
	{ "overcommit", NULL, 1, overcommit },
	{ "name", "guest", 1, name },
};

static const struct option *option_find(const char *arg)
{
	size_t i;

	if (*arg != '-')
		return NULL;
	arg += 1 + (arg[1] == '-');
	for (i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (!strcmp(arg, options[i].name))
			return &options[i];
	return NULL;
}

static void parse_round(struct args *a, char **argv, size_t argc,
			unsigned int round)
{
	const struct option *o;
	struct props p;
	size_t i;

	for (i = 0; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "-mem-path"))
			a->mem_path = argv[i + 1];
		o = option_find(argv[i]);
		if (!o)
			continue;
		/* Its value may look like an option */
		i++;
		if (o->round != round)
			continue;
		if (props_parse(&p, argv[i], o->first))
			o->parse(a, &p);
		else
			wrong(a, argv[i - 1], argv[i]);
		props_free(&p);
	}
}

char *qemu_parse(struct vm *vm, char **argv, size_t argc, bool more)
{
	struct args a = {
		.vm = vm, .more = more, .ram = 128 << 20,
	};
	struct backend *b;
	size_t i;

	parse_round(&a, argv, argc, 0);
	parse_round(&a, argv, argc, 1);
	if (more)
		return a.wrong;

	if (!a.main) {
		/* QEMU makes a backend of its own */
		b = vm_backend(vm, xstrdup("ram"));
		b->size = b->needed = a.ram;
		if (a.mem_path) {
			b->kind = BACKEND_FILE;
			b->path = xstrdup(a.mem_path);
		}
	}
	for (i = 0; i < vm->nr; i++)
		vm->total = add_counts(vm->total, vm->backends[i].size);
	return a.wrong;
}
