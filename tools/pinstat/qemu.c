// SPDX-License-Identifier: GPL-2.0
/* The command line of a QEMU */
#include <ctype.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "nodes.h"
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
		free(vm->backends[i].nodes);
	}
	free(vm->backends);
	free(vm->name);
	free(vm->emulator);
	free(vm->network);
	free(vm->source);
	free(vm->partition);
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

struct iommufd {
	char *id;
	bool opened;		/* somebody else has: libvirt */
	bool used;
};

struct args {
	struct vm *vm;
	struct iommufd *iommufds;
	size_t nr_iommufds;
	bool more;
	bool main;		/* RAM is one of the backends */
	bool no_card;		/* the machine's own is not there, or is told */
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

/* host-nodes=0-1, or host-nodes=0,host-nodes=2, or host-nodes.0 of JSON */
static char *nodes_of(const struct props *p)
{
	char *nodes = NULL, *more;
	size_t i;

	for (i = 0; i < p->nr; i++) {
		if (strncmp(p->list[i].key, "host-nodes", 10))
			continue;
		more = xasprintf("%s%s%s", nodes ?: "", nodes ? "," : "",
				 p->list[i].value);
		free(nodes);
		nodes = more;
	}
	more = nodes ? nodes_text(nodes) : NULL;
	free(nodes);
	return more;
}

/* libvirt opens it, from 12.1 on, and has it count for the process */
static void add_iommufd(struct args *a, const struct props *p, const char *id)
{
	if (a->nr_iommufds == MAX_BACKENDS) {
		wrong(a, "-object", "more iommufds than any VM has");
		return;
	}
	a->iommufds = reallocarray(a->iommufds, a->nr_iommufds + 1,
				   sizeof(*a->iommufds));
	if (!a->iommufds)
		err(2, "no memory");
	a->iommufds[a->nr_iommufds++] = (struct iommufd){
		.id = xstrdup(id), .opened = !a->more && props_get(p, "fd"),
	};
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
		a->vm->secret = SECRET_SEV;
	else if (!strcmp(type, "sev-snp-guest"))
		a->vm->secret = SECRET_SNP;
	else if (!strcmp(type, "tdx-guest"))
		a->vm->secret = SECRET_TDX;
	else if (!strcmp(type, "iommufd"))
		add_iommufd(a, p, id);
	if (!file && !memfd && strcmp(type, "memory-backend-ram") &&
	    strcmp(type, "memory-backend-shm"))
		return;
	if (a->vm->nr == MAX_BACKENDS) {
		wrong(a, "-object", "more memory backends than any VM has");
		return;
	}
	b = vm_backend(a->vm, escape(id, strlen(id)));
	get_size(a, p, "size", 'B', &b->size);
	b->needed = b->size;
	b->kind = file ? BACKEND_FILE :
		  !strcmp(type, "memory-backend-ram") ? BACKEND_ANON :
							BACKEND_MEMFD;
	b->share = props_bool(p, "share", b->kind == BACKEND_MEMFD);
	b->readonly = props_bool(p, "readonly", false);
	b->hugetlb = props_bool(p, "hugetlb", false);
	get_size(a, p, "hugetlbsize", 'B', &b->pagesize);
	if (props_is(p, "policy", "bind"))
		b->nodes = nodes_of(p);
	if (file)
		b->path = xstrdup(path);
}

/* A UUID: that of a mediated device, whatever way to it is given */
static bool is_mdev(const char *sysfs)
{
	size_t len = strlen(sysfs), i;
	const char *name;

	while (len && sysfs[len - 1] == '/')
		len--;
	if (len < 36 || (len > 36 && sysfs[len - 37] != '/'))
		return false;
	name = sysfs + len - 36;
	for (i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ?
		    name[i] != '-' : !isxdigit((unsigned char)name[i]))
			return false;
	return true;
}

/* Video memory that a card has, unless it is told: MiB, and who it is told by */
static const struct card {
	const char *driver, *option;
	unsigned int mib;
} cards[] = {
	{ "VGA", "vgamem_mb", 16 }, { "secondary-vga", "vgamem_mb", 16 },
	{ "bochs-display", "vgamem", 16 }, { "cirrus-vga", "vgamem_mb", 4 },
	{ "vmware-svga", "vgamem_mb", 16 }, { "virtio-vga", "vgamem_mb", 8 },
	{ "virtio-vga-gl", "vgamem_mb", 8 }, { "ati-vga", "vgamem_mb", 16 },
	{ "qxl", "ram_size", 64 + 64 }, { "qxl-vga", "ram_size", 64 + 64 },
};

static void card(struct args *a, const char *driver, const struct props *p)
{
	uint64_t bytes, mib;
	const char *text;
	size_t i;

	for (i = 0; i < sizeof(cards) / sizeof(*cards); i++) {
		if (strcmp(driver, cards[i].driver))
			continue;
		bytes = (uint64_t)cards[i].mib << 20;
		text = props_get(p, cards[i].option);
		if (text && strstr(cards[i].option, "_mb") &&
		    parse_number(text, &mib))
			bytes = multiply_counts(mib, 1 << 20);
		else if (text && !strstr(cards[i].option, "_mb"))
			parse_size(text, 'B', &bytes);
		a->vm->extra = add_counts(a->vm->extra, bytes);
		/* In place of the machine's own */
		if (strcmp(driver, "secondary-vga") &&
		    strcmp(driver, "bochs-display") && strcmp(driver, "qxl"))
			a->no_card = true;
	}
}

/* Memory that a device keeps to itself: no DMA reaches it */
static void store(struct args *a, const char *driver, const struct prop *p)
{
	bool erst = !strcmp(driver, "acpi-erst") && !strcmp(p->key, "memdev");
	bool cxl = !strcmp(driver, "cxl-type3") &&
		   (strstr(p->key, "memdev") || !strcmp(p->key, "lsa"));
	struct backend *b = erst || cxl ? find_backend(a, p->value) : NULL;

	if (b)
		b->unmapped = true;
}

/* One that is not in <qemu:commandline> is libvirt's */
static bool counts_for_user(const struct args *a, const struct iommufd *iommufd)
{
	return iommufd ? !iommufd->opened :
			 !a->more || !a->vm->pinners[0].iommufd;
}

static struct iommufd *find_iommufd(struct args *a, const char *id)
{
	size_t i;

	for (i = 0; i < a->nr_iommufds; i++)
		if (!strcmp(a->iommufds[i].id, id))
			return &a->iommufds[i];
	return NULL;
}

static void vfio_device(struct args *a, const struct props *p)
{
	const char *sysfs = props_get(p, "sysfsdev");
	const char *id = props_get(p, "iommufd");
	struct iommufd *iommufd = id ? find_iommufd(a, id) : NULL;

	/* As libvirt and we name mediated devices */
	if (sysfs && is_mdev(sysfs)) {
		pinners(a)->mdev++;
	} else if (id) {
		pinners(a)->iommufd++;
		pinners(a)->by_user += counts_for_user(a, iommufd);
	} else {
		pinners(a)->vfio++;
	}
	if (iommufd && !iommufd->used) {
		iommufd->used = true;
		a->vm->iommufds++;
	}
}

static void device(struct args *a, const struct props *p)
{
	const char *driver = props_get(p, "driver") ?: "";
	const char *memdev = props_get(p, "memdev");
	struct backend *b = memdev ? find_backend(a, memdev) : NULL;
	size_t i;

	if (!strncmp(driver, "vfio-", 5)) {
		vfio_device(a, p);
	} else if (!strncmp(driver, "vhost-vdpa-device", 17)) {
		pinners(a)->vdpa++;
	} else if (!strcmp(driver, "x-pci-proxy-dev")) {
		a->vm->proxy = true;
	} else if (strstr(driver, "-iommu") || !strcmp(driver, "arm-smmuv3")) {
		a->vm->viommu[a->more] = true;
	}
	card(a, driver, p);
	for (i = 0; i < p->nr; i++)
		store(a, driver, &p->list[i]);
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
		get_size(a, p, "block-size", 'B', &b->block);
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

/* The last part of a key: "filename" of "file.filename" */
static bool key_ends(const char *key, const char *name)
{
	const char *dot = strrchr(key, '.');

	return !strcmp(dot ? dot + 1 : key, name);
}

/* json: in json: in ... */
#define MAX_JSON	4

static bool drive_props(struct args *a, const struct props *p,
			unsigned int depth);

/* A name of a file: is it a drive on NVMe, or a description of one? */
static bool drive_name(struct args *a, const char *name, unsigned int depth)
{
	struct props p;
	bool found;

	if (!strncmp(name, "nvme://", 7)) {
		pinners(a)->nvme++;
		return true;
	}
	if (strncmp(name, "json:", 5) || depth == MAX_JSON)
		return false;
	found = props_parse(&p, name + 5, NULL) &&
		drive_props(a, &p, depth + 1);
	props_free(&p);
	return found;
}

/* A drive on NVMe by VFIO, at any depth of its description; or libblkio's */
static bool drive_props(struct args *a, const struct props *p,
			unsigned int depth)
{
	size_t i;

	for (i = 0; i < p->nr; i++) {
		const char *key = p->list[i].key, *value = p->list[i].value;
		bool driver = key_ends(key, "driver");

		if (driver && !strcmp(value, "nvme")) {
			pinners(a)->nvme++;
			return true;
		}
		if (driver && !strcmp(value, "virtio-blk-vhost-vdpa")) {
			pinners(a)->vdpa++;
			return true;
		}
		if ((key_ends(key, "file") || key_ends(key, "filename")) &&
		    drive_name(a, value, depth))
			return true;
	}
	return false;
}

static void drive(struct args *a, const struct props *p)
{
	drive_props(a, p, 0);
}

/* -hda FILE: all of it is a name, with its commas */
static void disk(struct args *a, const char *name)
{
	drive_name(a, name, 0);
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

static void vga(struct args *a, const struct props *p)
{
	static const char * const drivers[][2] = {
		{ "std", "VGA" }, { "cirrus", "cirrus-vga" },
		{ "vmware", "vmware-svga" }, { "qxl", "qxl-vga" },
		{ "virtio", "virtio-vga" },
	};
	const char *type = props_get(p, "type") ?: "";
	size_t i;

	a->no_card = true;
	for (i = 0; i < sizeof(drivers) / sizeof(*drivers); i++)
		if (!strcmp(type, drivers[i][0]))
			card(a, drivers[i][1], p);
}

static void config_file(struct args *a, const struct props *p)
{
	(void)p;
	a->vm->config_file = true;
}

static void run_with(struct args *a, const struct props *p)
{
	if (props_get(p, "user"))
		a->vm->changes_user = true;
}

static void run_as(struct args *a, const char *text)
{
	(void)text;
	a->vm->changes_user = true;
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
	void (*text)(struct args *a, const char *text);
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
	{ "vga", "type", 1, vga },
	{ "readconfig", NULL, 1, config_file },
	{ "run-with", NULL, 1, run_with },
	{ "runas", NULL, 1, NULL, run_as },
	{ "hda", NULL, 1, NULL, disk },
	{ "hdb", NULL, 1, NULL, disk },
	{ "hdc", NULL, 1, NULL, disk },
	{ "hdd", NULL, 1, NULL, disk },
	{ "cdrom", NULL, 1, NULL, disk },
};

/* With one dash or two */
static bool is_option(const char *arg, const char *name)
{
	return *arg == '-' && !strcmp(arg + 1 + (arg[1] == '-'), name);
}

static const struct option *option_find(const char *arg)
{
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (is_option(arg, options[i].name))
			return &options[i];
	return NULL;
}

static void parse_round(struct args *a, char **argv, size_t argc,
			unsigned int round)
{
	const struct option *o;
	struct props p;
	size_t i;

	for (i = 0; i < argc; i++) {
		if (is_option(argv[i], "nodefaults"))
			a->no_card = true;
		/* Without an option it is a disk, or the value of one that we do not know */
		if (*argv[i] != '-' && round == 1)
			disk(a, argv[i]);
		if (i + 1 == argc)
			return;
		if (is_option(argv[i], "mem-path"))
			a->mem_path = argv[i + 1];
		o = option_find(argv[i]);
		if (!o)
			continue;
		/* Its value may look like an option */
		i++;
		if (o->round != round)
			continue;
		if (o->text) {
			o->text(a, argv[i]);
			continue;
		}
		if (props_parse(&p, argv[i], o->first))
			o->parse(a, &p);
		else
			wrong(a, argv[i - 1], argv[i]);
		props_free(&p);
	}
}

static void drop_stores(struct vm *vm)
{
	size_t i, kept = 0;

	for (i = 0; i < vm->nr; i++) {
		struct backend *b = &vm->backends[i];

		if (!b->unmapped) {
			vm->backends[kept++] = *b;
			continue;
		}
		free(b->name);
		free(b->path);
		free(b->nodes);
	}
	vm->nr = kept;
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
	drop_stores(vm);
	while (a.nr_iommufds)
		free(a.iommufds[--a.nr_iommufds].id);
	free(a.iommufds);
	if (more)
		return a.wrong;

	/* Its firmware, or what of it is RAM, and the ROM beside it */
	vm->extra = add_counts(vm->extra, (128 + 128) << 10);
	if (!a.no_card)
		vm->extra = add_counts(vm->extra, 16 << 20);
	if (!a.main && !vm->config_file) {
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
