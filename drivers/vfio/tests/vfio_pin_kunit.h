/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of IOMMUs that fail, which no emulated one does: page tables that only
 * count. Included by drivers/vfio/vfio_pin.c, but not where that is a module:
 * they call what is not exported.
 */
#if defined(CONFIG_LONGTERM_PIN_KUNIT_TEST) && !defined(MODULE)

#ifndef _DRIVERS_VFIO_TESTS_VFIO_PIN_KUNIT_H
#define _DRIVERS_VFIO_TESTS_VFIO_PIN_KUNIT_H

#include "../../../mm/tests/pin_kunit.h"

#define TEST_IOVA	SZ_1G
#define TEST_PROT	(IOMMU_READ | IOMMU_WRITE)
#define TEST_DOMAINS	2
/* Every other page is mapped, so that none lie together */
#define TEST_PAGES	6
/* More than a batch has without an allocation */
#define TEST_SMALL	(VFIO_PIN_FEW + 1)

/**
 * struct test_domain - the page table of an IOMMU
 * @domain: as VFIO has it
 * @page: the page that is mapped at each IOVA
 * @refuses_map: the page that it does not map; -1: none
 * @refuses_unmap: the page that it does not unmap; -1: none
 * @unpinned: how many pages had no pin any more when they were unmapped
 */
struct test_domain {
	struct iommu_domain domain;
	struct page *page[TEST_SMALL];
	int refuses_map;
	int refuses_unmap;
	unsigned int unpinned;
};

static int test_map_pages(struct iommu_domain *domain, unsigned long iova,
			  phys_addr_t paddr, size_t pgsize, size_t pgcount,
			  int prot, gfp_t gfp, size_t *mapped)
{
	struct test_domain *d = container_of(domain, struct test_domain,
					     domain);
	int i = (iova - TEST_IOVA) / PAGE_SIZE;

	for (; pgcount; pgcount--, paddr += PAGE_SIZE, i++) {
		if (i == d->refuses_map)
			return -ENOSPC;
		d->page[i] = pfn_to_page(PHYS_PFN(paddr));
		*mapped += PAGE_SIZE;
	}
	return 0;
}

static size_t test_unmap_pages(struct iommu_domain *domain, unsigned long iova,
			       size_t pgsize, size_t pgcount,
			       struct iommu_iotlb_gather *gather)
{
	struct test_domain *d = container_of(domain, struct test_domain,
					     domain);
	int i = (iova - TEST_IOVA) / PAGE_SIZE;
	size_t unmapped = 0;

	for (; pgcount; pgcount--, i++) {
		if (i == d->refuses_unmap || !d->page[i])
			break;
		d->unpinned += !pin_test_pins(d->page[i]);
		d->page[i] = NULL;
		unmapped += PAGE_SIZE;
	}
	return unmapped;
}

static const struct iommu_domain_ops test_domain_ops = {
	.map_pages = test_map_pages,
	.unmap_pages = test_unmap_pages,
};

/**
 * struct vfio_pin_test - what each test starts with
 * @base: a process
 * @accounts: those of a container
 * @pinner: of a mapping that has nothing yet
 * @d: the container's IOMMUs
 * @addr: the process's memory
 * @batch: for @pinner
 */
struct vfio_pin_test {
	struct pin_test base;
	struct list_head accounts;
	struct vfio_pinner pinner;
	struct test_domain d[TEST_DOMAINS];
	unsigned long addr;
	struct vfio_pin_batch batch;
};

static int vfio_pin_test_init(struct kunit *test)
{
	struct vfio_pin_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	for (i = 0; i < TEST_DOMAINS; i++) {
		t->d[i].domain.type = IOMMU_DOMAIN_UNMANAGED;
		t->d[i].domain.ops = &test_domain_ops;
		t->d[i].domain.pgsize_bitmap = PAGE_SIZE;
		t->d[i].refuses_map = -1;
		t->d[i].refuses_unmap = -1;
	}
	INIT_LIST_HEAD(&t->accounts);
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	pin_test_begin(test, &t->base);
	t->addr = pin_test_map_small(test, PMD_SIZE);
	KUNIT_ASSERT_EQ(test, 0, vfio_pinner_init(&t->pinner, &t->accounts));
	return 0;
}

/* All pins of the test are gone */
static void vfio_pin_test_exit(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;

	if (!t)
		return;
	if (t->pinner.mm) {
		vfio_pinner_fini(&t->pinner);
		vfio_pin_settle(&t->accounts);
		vfio_pin_release(&t->accounts);
	}
	pin_test_end(test, &t->base);
}

/* The page of the process that is to be mapped as number @i */
static unsigned long test_addr(struct vfio_pin_test *t, int i)
{
	return t->addr + 2 * i * PAGE_SIZE;
}

static int test_page_pins(struct kunit *test, int i)
{
	struct vfio_pin_test *t = test->priv;

	return pin_test_pins(pin_test_page(test, test_addr(t, i)));
}

/* Put what is left of a page by hand */
static void test_put(struct kunit *test, int i)
{
	struct vfio_pin_test *t = test->priv;
	struct page *page = pin_test_page(test, test_addr(t, i));

	vfio_pinner_put(&t->pinner, page_to_pfn(page), 1, TEST_PROT);
}

/* Map page @i in all domains, as type1 does it */
static int test_map(struct kunit *test, int i)
{
	struct vfio_pin_test *t = test->priv;
	dma_addr_t iova = TEST_IOVA + i * PAGE_SIZE;
	int d, ret;

	ret = vfio_pin_batch_fill(&t->batch, &t->pinner, iova, test_addr(t, i),
				  1, TEST_PROT);
	KUNIT_ASSERT_EQ(test, ret, 1);
	for (d = 0; d < TEST_DOMAINS; d++) {
		ret = vfio_pin_batch_map(&t->batch, &t->d[d].domain, iova);
		if (!ret)
			continue;
		while (d--)
			vfio_pin_batch_unmap(&t->batch, &t->d[d].domain, iova);
		return ret;
	}
	vfio_pin_batch_mapped(&t->batch);
	return 0;
}

static bool test_unmap(void *data, dma_addr_t iova, size_t size)
{
	struct vfio_pin_test *t = data;
	bool done = true;
	int d;

	for (d = 0; d < TEST_DOMAINS; d++)
		done &= vfio_pin_unmap(&t->d[d].domain, iova, size);
	return done;
}

static void test_map_all(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;
	int i;

	vfio_pin_batch_init(&t->batch, TEST_PAGES, true);
	for (i = 0; i < TEST_PAGES; i++) {
		KUNIT_ASSERT_EQ(test, 0, test_map(test, i));
		KUNIT_EXPECT_EQ(test, 1, test_page_pins(test, i));
	}
	vfio_pin_batch_fini(&t->batch);
}

/* Pages are pinned until the last IOMMU has let them go */
static void put_after_all_have_unmapped(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;
	int i;

	test_map_all(test);
	vfio_pinner_unmap(&t->pinner, TEST_IOVA, TEST_PROT, test_unmap, t);
	KUNIT_EXPECT_EQ(test, 0, t->d[0].unpinned);
	KUNIT_EXPECT_EQ(test, 0, t->d[1].unpinned);
	for (i = 0; i < TEST_PAGES; i++) {
		KUNIT_EXPECT_NULL(test, t->d[0].page[i]);
		KUNIT_EXPECT_NULL(test, t->d[1].page[i]);
		KUNIT_EXPECT_EQ(test, 0, test_page_pins(test, i));
	}
}

/* Of a block of which an IOMMU keeps a page, nothing is put; of others, all is */
static void refuse_unmap(struct kunit *test, int d, int page)
{
	struct vfio_pin_test *t = test->priv;
	int i, kept = 0;

	test_map_all(test);
	t->d[d].refuses_unmap = page;
	vfio_pinner_unmap(&t->pinner, TEST_IOVA, TEST_PROT, test_unmap, t);
	for (i = 0; i < TEST_PAGES; i++) {
		int pins = test_page_pins(test, i);

		KUNIT_EXPECT_LE(test, t->d[d].page[i] ? 1 : 0, pins);
		/* The other IOMMU has let go what it could */
		KUNIT_EXPECT_NULL(test, t->d[!d].page[i]);
		kept += pins;
		if (pins)
			test_put(test, i);
	}
	KUNIT_EXPECT_GE(test, kept, 1);
	KUNIT_EXPECT_LT(test, kept, TEST_PAGES);
}

static void first_refuses_unmap(struct kunit *test)
{
	refuse_unmap(test, 0, 2);
}

static void second_refuses_unmap(struct kunit *test)
{
	refuse_unmap(test, 1, 2);
}

/* The second IOMMU does not map, and what the first has mapped is undone */
static void map_is_undone(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;

	t->d[1].refuses_map = 0;
	vfio_pin_batch_init(&t->batch, TEST_PAGES, true);
	KUNIT_EXPECT_EQ(test, -ENOSPC, test_map(test, 0));
	KUNIT_EXPECT_EQ(test, 1, test_page_pins(test, 0));
	vfio_pin_batch_fini(&t->batch);
	KUNIT_EXPECT_NULL(test, t->d[0].page[0]);
	KUNIT_EXPECT_EQ(test, 0, test_page_pins(test, 0));
}

/* The same, but it is not undone: then the page stays pinned */
static void map_is_not_undone(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;

	t->d[0].refuses_unmap = 0;
	t->d[1].refuses_map = 0;
	vfio_pin_batch_init(&t->batch, TEST_PAGES, true);
	KUNIT_EXPECT_EQ(test, -ENOSPC, test_map(test, 0));
	vfio_pin_batch_fini(&t->batch);
	KUNIT_EXPECT_NOT_NULL(test, t->d[0].page[0]);
	KUNIT_EXPECT_EQ(test, 1, test_page_pins(test, 0));
	test_put(test, 0);
}

/* One IOMMU, which stops half-way and does not undo what it did */
static void extents_are_not_undone(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;
	int i, ret;

	t->d[0].refuses_unmap = 0;
	t->d[0].refuses_map = 1;
	vfio_pin_batch_init(&t->batch, TEST_PAGES, true);
	ret = vfio_pin_batch_fill(&t->batch, &t->pinner, TEST_IOVA, t->addr,
				  TEST_PAGES, TEST_PROT);
	KUNIT_ASSERT_GT(test, ret, 0);
	/* As if no two pages lay together */
	for (i = 0; i < ret; i++)
		t->batch.extents[i] = (struct pin_extent){
			page_to_pfn(pin_test_page(test, t->addr + i * PAGE_SIZE)),
			1,
		};
	t->batch.nr = ret;
	t->batch.ready = ret;
	KUNIT_EXPECT_EQ(test, -ENOSPC,
			vfio_pin_batch_map(&t->batch, &t->d[0].domain,
					   TEST_IOVA));
	vfio_pin_batch_fini(&t->batch);
	KUNIT_EXPECT_NOT_NULL(test, t->d[0].page[0]);
	for (i = 0; i < ret; i++) {
		struct page *page = pin_test_page(test, t->addr + i * PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, 1, pin_test_pins(page));
		vfio_pinner_put(&t->pinner, page_to_pfn(page), 1, TEST_PROT);
	}
}

/* A small mapping has a batch of its size, and that suffices */
static void batch_of_a_small_mapping(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;
	struct vfio_pin_batch *batch = &t->batch;

	vfio_pin_batch_init(batch, TEST_SMALL, true);
	KUNIT_ASSERT_PTR_NE(test, batch->extents,
			    (struct pin_extent *)batch->few);
	KUNIT_EXPECT_LE(test, ksize(batch->extents), SZ_2K);
	KUNIT_EXPECT_EQ(test, TEST_SMALL,
			vfio_pin_batch_fill(batch, &t->pinner, TEST_IOVA,
					    t->addr, TEST_SMALL, TEST_PROT));
	KUNIT_EXPECT_EQ(test, 0,
			vfio_pin_batch_map(batch, &t->d[0].domain, TEST_IOVA));
	KUNIT_EXPECT_EQ(test, 0,
			vfio_pin_batch_map(batch, &t->d[1].domain, TEST_IOVA));
	vfio_pin_batch_mapped(batch);
	vfio_pin_batch_fini(batch);
	KUNIT_EXPECT_NOT_NULL(test, t->d[0].page[TEST_SMALL - 1]);
	vfio_pinner_unmap(&t->pinner, TEST_IOVA, TEST_PROT, test_unmap, t);
}

#ifdef CONFIG_MEMCG
/* After exec(), by a mapping beside this one; somebody reads the old memory */
static void memory_of_who_lost_the_account_is_not_pinned(struct kunit *test)
{
	struct vfio_pin_test *t = test->priv;
	struct mm_struct *old = t->base.mm, *new = pin_test_other_mm(test);
	struct task_struct *owner = rcu_access_pointer(old->owner);
	struct page *page;
	unsigned long pfn;

	RCU_INIT_POINTER(old->owner, NULL);
	KUNIT_EXPECT_EQ(test, 0, pin_account_adopt(t->pinner.account->acct,
						   &t->pinner.owner, new));
	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_pinner_pin(&t->pinner, t->addr, 1,
						       TEST_PROT, &pfn, &page));
	vfio_pin_batch_init(&t->batch, 1, true);
	KUNIT_EXPECT_EQ(test, -ENODEV,
			vfio_pin_batch_fill(&t->batch, &t->pinner, TEST_IOVA,
					    t->addr, 1, TEST_PROT));
	vfio_pin_batch_fini(&t->batch);
	RCU_INIT_POINTER(old->owner, owner);
}
#endif

static struct kunit_case vfio_pin_test_cases[] = {
	KUNIT_CASE(put_after_all_have_unmapped),
	KUNIT_CASE(first_refuses_unmap),
	KUNIT_CASE(second_refuses_unmap),
	KUNIT_CASE(map_is_undone),
	KUNIT_CASE(map_is_not_undone),
	KUNIT_CASE(extents_are_not_undone),
	KUNIT_CASE(batch_of_a_small_mapping),
#ifdef CONFIG_MEMCG
	KUNIT_CASE(memory_of_who_lost_the_account_is_not_pinned),
#endif
	{}
};

static struct kunit_suite vfio_pin_test_suite = {
	.name = "vfio_pin",
	.init = vfio_pin_test_init,
	.exit = vfio_pin_test_exit,
	.test_cases = vfio_pin_test_cases,
};

kunit_test_suite(vfio_pin_test_suite);

#endif /* _DRIVERS_VFIO_TESTS_VFIO_PIN_KUNIT_H */
#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST && !MODULE */
