// SPDX-License-Identifier: GPL-2.0
/*
 * libvirt's XML of a domain. Which kind of memory comes of it is decided as libvirt
 * does when it builds QEMU's command line (there is no other description of it).
 */
#include <ctype.h>
#include <err.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "nodes.h"
#include "pins.h"
#include "sysroot.h"
#include "vm.h"

#define QEMU_NAMESPACE	"http://libvirt.org/schemas/domain/qemu/1.0"

enum access { ACCESS_NONE, ACCESS_SHARED, ACCESS_PRIVATE };

struct domain {
	struct vm *vm;
	const char *file, *backing_dir;
	const struct mounts *mounts;
	xmlNode *backing;		/* <memoryBacking>, or NULL */
	xmlNode *cells;			/* <numa>, or NULL */
	xmlNode *numatune;
	enum access access;
	char *wrong;
};

/* The first thing that is wrong is told */
__attribute__((format(printf, 3, 4)))
static void wrong(struct domain *d, const xmlNode *node, const char *fmt, ...)
{
	va_list ap;
	char *text, *name;

	if (d->wrong)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		err(2, "no memory");
	va_end(ap);
	name = escape(text, strlen(text));
	d->wrong = xasprintf("%s:%ld: %s", d->file, node ?
			     xmlGetLineNo((xmlNode *)node) : 1, name);
	free(name);
	free(text);
}

/* --- Elements ---------------------------------------------------------------- */

static bool is_element(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE &&
		!strcmp((const char *)node->name, name);
}

/* The first with this name, beginning at @node */
static xmlNode *element(xmlNode *node, const char *name)
{
	while (node && !is_element(node, name))
		node = node->next;
	return node;
}

static xmlNode *child(const xmlNode *node, const char *name)
{
	return node ? element(node->children, name) : NULL;
}

#define for_each_child(pos, node, name) \
	for (pos = child(node, name); pos; pos = element(pos->next, name))

static char *steal(xmlChar *text)
{
	char *copy = text ? xstrdup((char *)text) : NULL;

	xmlFree(text);
	return copy;
}

static char *attribute(const xmlNode *node, const char *name)
{
	return node ? steal(xmlGetProp((xmlNode *)node, (const xmlChar *)name)) :
		      NULL;
}

static bool attribute_is(const xmlNode *node, const char *name,
			 const char *value)
{
	char *is = attribute(node, name);
	bool ret = is && !strcmp(is, value);

	free(is);
	return ret;
}

/* Without white space around it */
static char *content(const xmlNode *node)
{
	char *text = steal(xmlNodeGetContent((xmlNode *)node)) ?: xstrdup("");
	size_t len = strlen(text), skip = strspn(text, " \t\r\n");

	while (len > skip && isspace((unsigned char)text[len - 1]))
		len--;
	memmove(text, text + skip, len - skip);
	text[len - skip] = '\0';
	return text;
}

/* --- Sizes ------------------------------------------------------------------- */

/* As libvirt: KB is 1000, K and KiB are 1024, in any case of letters */
static bool unit_scale(const char *unit, uint64_t *scale)
{
	static const char letters[] = "kmgtpe";
	const char *letter;
	uint64_t base = 1024;
	int i;

	*scale = 1;
	if (!strcasecmp(unit, "b") || !strcasecmp(unit, "byte") ||
	    !strcasecmp(unit, "bytes"))
		return true;
	letter = *unit ? strchr(letters, tolower((unsigned char)*unit)) : NULL;
	if (!letter)
		return false;
	if (!strcasecmp(unit + 1, "b"))
		base = 1000;
	else if (unit[1] && strcasecmp(unit + 1, "ib"))
		return false;
	for (i = 0; i <= letter - letters; i++)
		*scale *= base;
	return true;
}

static uint64_t scaled(struct domain *d, const xmlNode *node, char *number,
		       char *unit)
{
	uint64_t value = 0, scale = 1024;

	if (!parse_number(number ?: "", &value) ||
	    (unit && *unit && !unit_scale(unit, &scale)))
		wrong(d, node, "<%s>: '%s%s%s' is not a size", node->name,
		      number ?: "", unit ? " " : "", unit ?: "");
	else if (__builtin_mul_overflow(value, scale, &value) ||
		 value > INT64_MAX)
		wrong(d, node, "<%s>: %s%s%s is too large", node->name, number,
		      unit ? " " : "", unit ?: "");
	free(number);
	free(unit);
	return d->wrong ? 0 : value;
}

static uint64_t element_size(struct domain *d, const xmlNode *node)
{
	return node ? scaled(d, node, content(node), attribute(node, "unit")) :
		      0;
}

static uint64_t element_number(struct domain *d, const xmlNode *node,
			       uint64_t otherwise)
{
	char *text = node ? content(node) : NULL;

	if (text && !parse_number(text, &otherwise))
		wrong(d, node, "<%s>: '%s' is not a number", node->name, text);
	free(text);
	return otherwise;
}

/* --- Memory ------------------------------------------------------------------ */

/* As libvirt rounds what is given to QEMU */
static uint64_t round_up(const struct domain *d, uint64_t bytes, uint64_t to)
{
	if (d->vm->ppc64)
		to = 256 << 20;
	return bytes > UINT64_MAX - to ? bytes : (bytes + to - 1) / to * to;
}

#define ROUND_RAM	(1 << 20)
#define ROUND_DEVICE	(2 << 20)

static char *escaped_attribute(const xmlNode *node, const char *name)
{
	char *text = attribute(node, name), *out;

	out = text ? escape(text, strlen(text)) : NULL;
	free(text);
	return out;
}

static char *nodes_attribute(const xmlNode *node, const char *name)
{
	char *text = attribute(node, name), *out;

	out = text ? nodes_text(text) : NULL;
	free(text);
	return out;
}

/* Strict unless it says something else; restrictive: by the cgroup, for small pages */
static void bind_as(struct backend *b, const xmlNode *node)
{
	char *mode = attribute(node, "mode");

	b->by_cpuset = mode && !strcmp(mode, "restrictive");
	if (!mode || !strcmp(mode, "strict") || b->by_cpuset)
		b->nodes = nodes_attribute(node, "nodeset");
	free(mode);
}

/* To which nodes of the host is memory of this guest node bound? */
static void bind_backend(struct domain *d, struct backend *b, uint64_t node)
{
	xmlNode *memnode;
	uint64_t cell;
	char *text;

	for_each_child(memnode, d->numatune, "memnode") {
		text = attribute(memnode, "cellid");
		if (!text || !parse_number(text, &cell))
			cell = UINT64_MAX;
		free(text);
		if (cell != node || node == UINT64_MAX)
			continue;
		bind_as(b, memnode);
		return;
	}
	bind_as(b, child(d->numatune, "memory"));
}

static enum access access_of(const xmlNode *node, const char *name)
{
	return attribute_is(node, name, "shared") ? ACCESS_SHARED :
	       attribute_is(node, name, "private") ? ACCESS_PRIVATE :
						     ACCESS_NONE;
}

/* Of a cell of <numa>: what is added to that node is alike */
static enum access access_of_node(struct domain *d, uint64_t node)
{
	uint64_t next = 0, id;
	xmlNode *cell;
	char *text;

	for_each_child(cell, d->cells, "cell") {
		text = attribute(cell, "id");
		if (!text || !parse_number(text, &id))
			id = next;
		free(text);
		next = id + 1;
		if (id == node)
			return access_of(cell, "memAccess");
	}
	return ACCESS_NONE;
}

/* Of "0-3,5"; what excludes ("^2") is after what includes */
static bool in_nodeset(const char *set, uint64_t node)
{
	bool in = false, no;
	uint64_t from, to;
	char *end;

	while (*set) {
		no = *set == '^';
		from = to = strtoull(set + no, &end, 10);
		if (*end == '-')
			to = strtoull(end + 1, &end, 10);
		if (node >= from && node <= to)
			in = !no;
		set = end + strcspn(end, ",");
		set += *set == ',';
	}
	return in;
}

/*
 * Does libvirt take huge pages for memory of this guest node, UINT64_MAX: none?
 * @pagesize: 0 is the default
 */
static bool huge_pages(struct domain *d, uint64_t node, uint64_t *pagesize)
{
	xmlNode *hugepages = child(d->backing, "hugepages"), *page;
	bool found = hugepages && !child(hugepages, "page");
	char *nodes;

	*pagesize = 0;
	for_each_child(page, hugepages, "page") {
		nodes = attribute(page, "nodeset");
		/* Without cells there is node 0 */
		if (!nodes || in_nodeset(nodes, node == UINT64_MAX &&
					 !d->cells ? 0 : node)) {
			*pagesize = scaled(d, page, attribute(page, "size"),
					   attribute(page, "unit"));
			found = true;
		}
		/* Pages for this node in particular come first */
		if (nodes && found && in_nodeset(nodes, node)) {
			free(nodes);
			break;
		}
		free(nodes);
	}
	return found;
}

/*
 * @path: of what is in a file of its own, or NULL; @pagesize: of <source>, or 0.
 * Takes @name and @path.
 */
static struct backend *add_backend(struct domain *d, char *name, uint64_t size,
				   enum access access, uint64_t node,
				   char *path, uint64_t pagesize)
{
	struct backend *b = vm_backend(d->vm, name);
	const char *source = d->vm->source ?: "";
	char *dir;
	bool huge = pagesize || huge_pages(d, node, &pagesize);

	/* These are pages like any others */
	if (huge && pagesize == (uint64_t)sysconf(_SC_PAGESIZE))
		huge = false;
	if (access == ACCESS_NONE)
		access = access_of_node(d, node);
	d->vm->private_parts |= !path && !huge && access == ACCESS_PRIVATE;
	if (access == ACCESS_NONE)
		access = d->access;
	b->size = b->needed = size;
	b->share = access == ACCESS_SHARED;
	bind_backend(d, b, node);
	if (path) {
		b->kind = BACKEND_FILE;
		b->path = path;
		return b;
	}

	b->hugetlb = huge;
	b->pagesize = huge ? pagesize : 0;
	dir = huge ? mount_dir(d->mounts, "hugetlbfs", pagesize) : NULL;
	if (!strcmp(source, "memfd")) {
		b->kind = BACKEND_MEMFD;
		b->made = true;
		if (access == ACCESS_NONE)
			b->share = true;
	} else if (huge) {
		b->kind = BACKEND_FILE;
		b->made = true;
		if (dir)
			b->path = xasprintf("%s/libvirt/qemu/", dir);
	} else if (access != ACCESS_NONE || !strcmp(source, "file")) {
		b->kind = BACKEND_FILE;
		b->made = true;
		b->path = xasprintf("%s/", d->backing_dir);
	}
	free(dir);
	return b;
}

/* As QEMU gets it: an NVDIMM of POWER is cut, so that its file is not written beyond */
static uint64_t device_size(struct domain *d, xmlNode *node,
			    const xmlNode *target)
{
	uint64_t size = element_size(d, child(target, "size")), label;

	if (!d->vm->ppc64 || !attribute_is(node, "model", "nvdimm"))
		return round_up(d, size, ROUND_DEVICE);
	label = element_size(d, child(child(target, "label"), "size"));
	return size < label ? size :
	       (size - label) / (256 << 20) * (256 << 20) + label;
}

/* <devices><memory>: DIMMs and the like. Returns their size. */
static uint64_t add_memory_device(struct domain *d, xmlNode *node,
				  unsigned int n)
{
	static const struct {
		const char *model, *alias;
		enum backend_use use;
	} models[] = {
		{ "dimm", "dimm", USE_RAM },
		{ "nvdimm", "nvdimm", USE_NVDIMM },
		{ "virtio-pmem", "virtiopmem", USE_VIRTIO_PMEM },
		{ "virtio-mem", "virtiomem", USE_VIRTIO_MEM },
	};
	xmlNode *source = child(node, "source"), *target = child(node, "target");
	xmlNode *path = child(source, "path"), *requested;
	uint64_t size = device_size(d, node, target);
	char *model = attribute(node, "model") ?: xstrdup("");
	char *alias = attribute(child(node, "alias"), "name"), *name, *mask;
	struct backend *b;
	size_t i;

	for (i = 0; i < sizeof(models) / sizeof(*models); i++)
		if (!strcmp(models[i].model, model))
			break;
	/* Others, as sgx-epc, are no RAM to devices */
	if (i < sizeof(models) / sizeof(*models)) {
		name = alias ? escape(alias, strlen(alias)) :
			       xasprintf("%s%u", models[i].alias, n);
		b = add_backend(d, name, size, access_of(node, "access"),
				element_number(d, child(target, "node"),
					       UINT64_MAX),
				path ? content(path) : NULL,
				element_size(d, child(source, "pagesize")));
		b->use = models[i].use;
		/* libvirt shares it unless it is told otherwise */
		if (b->use == USE_VIRTIO_PMEM &&
		    access_of(node, "access") == ACCESS_NONE)
			b->share = true;
		if (child(source, "nodemask")) {
			free(b->nodes);
			mask = content(child(source, "nodemask"));
			b->nodes = nodes_text(mask);
			b->by_cpuset = false;
			free(mask);
		}
		requested = child(target, "requested");
		if (requested)
			b->needed = element_size(d, requested);
		if (b->use == USE_VIRTIO_MEM)
			b->block = element_size(d, child(target, "block"));
	}
	free(model);
	free(alias);
	return size;
}

static void add_ram(struct domain *d, xmlNode *root)
{
	xmlNode *devices = child(root, "devices"), *node;
	uint64_t added = 0, ram = 0, id = 0;
	struct vm *vm = d->vm;
	unsigned int n = 0;
	char *text;

	for_each_child(node, d->cells, "cell") {
		uint64_t size = scaled(d, node, attribute(node, "memory"),
				       attribute(node, "unit"));

		if (vm->nr == MAX_BACKENDS) {
			wrong(d, node, "more cells than any VM has");
			return;
		}
		size = round_up(d, size, ROUND_RAM);
		text = attribute(node, "id");
		if (text && !parse_number(text, &id))
			wrong(d, node, "<cell>: '%s' is not a number", text);
		free(text);
		add_backend(d, xasprintf("ram-node%llu",
					 (unsigned long long)id), size,
			    ACCESS_NONE, id, NULL, 0);
		ram = add_counts(ram, size);
		id++;
	}
	if (!d->cells) {
		for_each_child(node, devices, "memory")
			added = add_counts(added, element_size(d,
					child(child(node, "target"), "size")));
		ram = element_size(d, child(root, "memory"));
		if (added >= ram)
			wrong(d, child(root, "memory") ?: root,
			      ram ? "the memory devices (<memory model=...>) are larger than <memory>" :
				    "no <memory>, or none in it");
		ram = round_up(d, ram - added, ROUND_RAM);
		add_backend(d, xstrdup("ram"), ram, ACCESS_NONE, UINT64_MAX,
			    NULL, 0);
		added = 0;
	}
	for_each_child(node, devices, "memory") {
		if (vm->nr == MAX_BACKENDS) {
			wrong(d, node, "more memory devices than any VM has");
			return;
		}
		added = add_counts(added, add_memory_device(d, node, n++));
	}
	vm->total = add_counts(ram, added);
	vm->max_memory = round_up(d, element_size(d, child(root, "maxMemory")),
				  ROUND_RAM) ?: vm->total;
}

/* Takes the list of <shmem> */
static void add_shmem(struct domain *d, xmlNode *devices)
{
	struct backend *b;
	xmlNode *node;
	char *name;

	for_each_child(node, devices, "shmem") {
		xmlNode *model = child(node, "model");
		xmlNode *size = child(node, "size");

		if (d->vm->nr == MAX_BACKENDS) {
			wrong(d, node, "more shared memory than any VM has");
			return;
		}
		name = attribute(node, "name") ?: xstrdup("");
		b = vm_backend(d->vm, escape(name, strlen(name)));
		b->use = USE_IVSHMEM;
		b->share = true;
		/* libvirt's default for ivshmem-plain */
		b->size = size ? element_size(d, size) : 4 << 20;
		b->needed = b->size;
		/* Of the other model a server has it, as a memfd or in /dev/shm */
		b->kind = BACKEND_MEMFD;
		if (attribute_is(model, "type", "ivshmem-plain")) {
			b->kind = BACKEND_FILE;
			b->path = xasprintf("/dev/shm/%s", name);
		}
		free(name);
	}
}

/* --- XML --------------------------------------------------------------------- */

struct parse_state {
	bool dtd;
	char *message;		/* the first error's; those after it follow from it */
	int line;
};

#if LIBXML_VERSION < 21200
#define const_since_2_12
#else
#define const_since_2_12 const
#endif

static void xml_error(void *data, const_since_2_12 xmlError *error)
{
	struct parse_state *state = ((xmlParserCtxt *)data)->_private;

	if (state->message || error->level < XML_ERR_ERROR)
		return;
	state->message = xstrdup(error->message ?: "no XML");
	state->message[strcspn(state->message, "\n")] = '\0';
	state->line = error->line;
}

/* Nothing of libvirt has one, and bombs are made of them */
static void no_dtd(void *data, const xmlChar *name, const xmlChar *external,
		   const xmlChar *system)
{
	xmlParserCtxt *parser = data;
	struct parse_state *state = parser->_private;

	(void)name;
	(void)external;
	(void)system;
	state->dtd = true;
	state->line = parser->input ? parser->input->line : 1;
	xmlStopParser(parser);
}

/* NULL, and in @state why: .dtd, or else .message, for free() */
static xmlDoc *parse(struct parse_state *state, const char *xml, size_t len)
{
	xmlParserCtxt *parser = xmlNewParserCtxt();
	xmlDoc *doc;

	*state = (struct parse_state){ 0 };
	if (!parser)
		err(2, "no memory");
	parser->_private = state;
	parser->sax->internalSubset = no_dtd;
	parser->sax->serror = xml_error;
	/* Not XML_PARSE_HUGE: the library's limits hold */
	doc = xmlCtxtReadMemory(parser, xml, len, NULL, NULL, XML_PARSE_NONET);
	xmlFreeParserCtxt(parser);
	if (state->dtd) {
		xmlFreeDoc(doc);
		doc = NULL;
	}
	return doc;
}

/* --- Devices ----------------------------------------------------------------- */

/* A network may be a pool of virtual functions, of which each interface gets one */
static void add_network(struct domain *d, xmlNode *source)
{
	/* As it runs, which may not be as it is defined */
	static const char * const folders[] = {
		"/run/libvirt/network", "/etc/libvirt/qemu/networks",
	};
	char *name = attribute(source, "network"), *text = NULL;
	struct parse_state state;
	xmlDoc *doc = NULL;
	xmlNode *root;
	size_t len, i;

	for (i = 0; name && !strchr(name, '/') && i < 2 && !doc; i++) {
		text = sysroot_read(&len, "%s/%s.xml", folders[i], name);
		if (!text)
			continue;
		doc = parse(&state, text, len);
		free(state.message);
		free(text);
	}
	if (doc) {
		root = xmlDocGetRootElement(doc);
		/* Of a network that runs, it is in <networkstatus> */
		root = child(root, "network") ?: root;
		if (attribute_is(child(root, "forward"), "mode", "hostdev"))
			d->vm->pinners[0].vfio++;
		xmlFreeDoc(doc);
	} else if (name && !d->vm->network) {
		d->vm->network = escape(name, strlen(name));
	}
	free(name);
}

/* A disk, or what is below it, is on NVMe by VFIO */
static bool has_source_type(xmlNode *node, const char *type)
{
	for (; node; node = child(node, "backingStore"))
		if (attribute_is(node, "type", type))
			return true;
	return false;
}

/* libvirt takes it from the host, but does not give it to the guest */
static bool is_unassigned(xmlNode *device)
{
	return attribute_is(child(device, "address"), "type", "unassigned");
}

/* Bytes of a card: what QEMU takes, or the XML tells it, which is in KiB */
static uint64_t video_memory(struct domain *d, xmlNode *model)
{
	static const struct {
		const char *type;
		uint64_t kib, ram;
		bool told;
	} cards[] = {
		{ "vga", 16 << 10, 0, true }, { "bochs", 16 << 10, 0, true },
		{ "vmvga", 16 << 10, 0, true }, { "cirrus", 4 << 10 },
		{ "virtio", 8 << 10 }, { "qxl", 64 << 10, 64 << 10, true },
	};
	static const char * const names[] = { "vram", "ram" };
	uint64_t kib[2] = { 0 };
	char *text;
	size_t i, k;

	for (i = 0; i < sizeof(cards) / sizeof(*cards); i++)
		if (attribute_is(model, "type", cards[i].type))
			break;
	if (i == sizeof(cards) / sizeof(*cards))
		return 0;
	kib[0] = cards[i].kib;
	kib[1] = cards[i].ram;
	for (k = 0; k < 2 && cards[i].told; k++) {
		text = attribute(model, names[k]);
		if (text && !parse_number(text, &kib[k]))
			wrong(d, model, "<model>: '%s' is not a number", text);
		free(text);
	}
	return multiply_counts(add_counts(kib[0], cards[i].ram ? kib[1] : 0),
			       1024);
}

static void add_extra(struct domain *d, xmlNode *root, xmlNode *devices)
{
	xmlNode *node, *os = child(root, "os"), *loader = child(os, "loader");
	struct vm *vm = d->vm;

	/* The firmware, and the ROM beside it */
	vm->extra = (256 + 128) << 10;
	if (attribute_is(os, "firmware", "efi") ||
	    attribute_is(loader, "type", "pflash"))
		vm->extra = (128 + 128) << 10;	/* the rest is flash, no RAM */
	node = child(devices, "video");
	if (node)
		vm->extra = add_counts(vm->extra,
				       video_memory(d, child(node, "model")));
	/* libvirt adds a card where there is a screen */
	if (!child(devices, "video") && child(devices, "graphics"))
		vm->extra = add_counts(vm->extra, 16 << 20);
}

/* An assigned PCI device, by iommufd or by a container: it says so, or the VM does */
static void add_pci(struct domain *d, xmlNode *node, bool by_default)
{
	unsigned int libvirt = d->vm->libvirt_version;
	struct pinners *p = &d->vm->pinners[0];
	xmlNode *driver = child(node, "driver");
	bool iommufd = by_default && (!libvirt || libvirt >= LIBVIRT_IOMMUFD_VM);

	if (attribute_is(driver, "iommufd", "no"))
		iommufd = false;
	if (attribute_is(driver, "iommufd", "yes"))
		iommufd = !libvirt || libvirt >= LIBVIRT_IOMMUFD;
	if (iommufd)
		p->iommufd++;
	else
		p->vfio++;
}

static void add_devices(struct domain *d, xmlNode *root, xmlNode *devices)
{
	bool iommufd = attribute_is(child(root, "iommufd"), "enabled", "yes");
	struct pinners *p = &d->vm->pinners[0];
	xmlNode *node;

	for_each_child(node, devices, "hostdev") {
		if (is_unassigned(node)) {
			d->vm->unassigned++;
			continue;
		}
		if (attribute_is(node, "type", "mdev"))
			p->mdev++;
		else if (attribute_is(node, "type", "pci"))
			add_pci(d, node, iommufd);
	}
	for_each_child(node, devices, "interface") {
		if (is_unassigned(node))
			continue;
		if (attribute_is(node, "type", "hostdev"))
			add_pci(d, node, iommufd);
		else if (attribute_is(node, "type", "vdpa"))
			p->vdpa++;
		else if (attribute_is(node, "type", "network"))
			add_network(d, child(node, "source"));
	}
	for_each_child(node, devices, "disk") {
		if (has_source_type(node, "nvme"))
			p->nvme++;
		else if (has_source_type(node, "vhostvdpa")) {
			p->vdpa++;
			d->vm->vdpa_disks++;
		}
	}
	d->vm->viommu[0] = child(devices, "iommu");
}

static void add_commandline(struct domain *d, xmlNode *root)
{
	char **argv = NULL, *why, *arg;
	xmlNode *node, *list;
	size_t argc = 0;

	for_each_child(list, root, "commandline") {
		if (!list->ns ||
		    strcmp((const char *)list->ns->href, QEMU_NAMESPACE))
			continue;
		for_each_child(node, list, "arg") {
			arg = attribute(node, "value") ?: xstrdup("");
			argv = reallocarray(argv, argc + 1, sizeof(*argv));
			if (!argv)
				err(2, "no memory");
			argv[argc++] = arg;
		}
		why = qemu_parse(d->vm, argv, argc, true);
		if (why)
			wrong(d, list, "<qemu:commandline>: %s", why);
		free(why);
		while (argc)
			free(argv[--argc]);
	}
	free(argv);
}

/* The program that runs it: libvirt adds the distribution's where the XML has none */
static char *emulator_of(xmlNode *root)
{
	xmlNode *node = child(child(root, "devices"), "emulator");
	char *arch, *path;

	if (node)
		return content(node);
	arch = attribute(child(child(root, "os"), "type"), "arch");
	path = xasprintf("/usr/bin/qemu-system-%s", arch ?: "x86_64");
	free(arch);
	return path;
}

static void domain_read(struct domain *d, xmlNode *root)
{
	xmlNode *hard = child(child(root, "memtune"), "hard_limit");
	xmlNode *devices = child(root, "devices"), *node;
	struct vm *vm = d->vm;
	char *text;

	if (!is_element(root, "domain")) {
		wrong(d, root, "<%s> is not a <domain>", root->name);
		return;
	}
	if (!attribute_is(root, "type", "kvm") &&
	    !attribute_is(root, "type", "qemu")) {
		wrong(d, root, "a domain, but not of QEMU (type='kvm' or 'qemu')");
		return;
	}
	node = child(root, "name");
	text = node ? content(node) : xstrdup("");
	vm->name = escape(text, strlen(text));
	free(text);
	vm->libvirt = true;
	node = child(child(root, "resource"), "partition");
	vm->partition = node ? content(node) : NULL;
	vm->emulator = emulator_of(root);

	d->backing = child(root, "memoryBacking");
	d->cells = child(child(root, "cpu"), "numa");
	if (!child(d->cells, "cell"))
		d->cells = NULL;
	d->numatune = child(root, "numatune");
	d->access = access_of(child(d->backing, "access"), "mode");
	vm->locked = child(d->backing, "locked");
	vm->source = escaped_attribute(child(d->backing, "source"), "type");
	if (hard) {
		vm->hard_limit = (element_size(d, hard) + 1023) / 1024 * 1024;
		/* The largest that there is stands for none */
		vm->hard_limited = vm->hard_limit >> 10 < INT64_MAX >> 10;
	}
	node = child(root, "launchSecurity");
	vm->secret = attribute_is(node, "type", "sev") ? SECRET_SEV :
		     attribute_is(node, "type", "sev-snp") ? SECRET_SNP :
		     attribute_is(node, "type", "tdx") ? SECRET_TDX :
							 SECRET_NONE;
	vm->kvm = attribute_is(root, "type", "kvm");
	text = attribute(child(child(root, "os"), "type"), "arch");
	vm->ppc64 = text && !strncmp(text, "ppc64", 5);
	free(text);
	vm->phbs = 1;		/* libvirt adds the first, with index 0 */
	for_each_child(node, devices, "controller")
		vm->phbs += attribute_is(node, "type", "pci") &&
			    attribute_is(node, "model", "pci-root") &&
			    !attribute_is(node, "index", "0");

	add_ram(d, root);
	add_extra(d, root, devices);
	add_shmem(d, devices);
	add_devices(d, root, devices);
	add_commandline(d, root);
}

char *domain_parse(struct vm *vm, const char *xml, size_t len, const char *file,
		   const char *backing_dir, const struct mounts *mounts)
{
	struct domain d = {
		.vm = vm, .file = file, .backing_dir = backing_dir,
		.mounts = mounts,
	};
	struct parse_state state;
	char *message;
	xmlDoc *doc;

	doc = parse(&state, xml, len);
	if (state.dtd) {
		d.wrong = xasprintf("%s:%d: a document type, which no domain has",
				    file, state.line);
	} else if (!doc) {
		message = state.message ? escape(state.message,
						 strlen(state.message)) :
					  xstrdup("no XML");
		d.wrong = xasprintf("%s:%d: %s", file, state.line ?: 1, message);
		free(message);
	} else {
		domain_read(&d, xmlDocGetRootElement(doc));
	}
	free(state.message);
	xmlFreeDoc(doc);
	return d.wrong;
}
