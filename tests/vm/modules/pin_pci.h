/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The PCI device of pin_pci.c, as its guest sees it: BAR 0 is one page.
 */
#ifndef USERPIN_PIN_PCI_H
#define USERPIN_PIN_PCI_H

#define PIN_PCI_VENDOR	0x1234
#define PIN_PCI_DEVICE	0x11e9

/*
 * Written as a u64: the guest-physical address of a page, which the device pins and
 * whose bytes it inverts. It unpins the page before, as it does at a reset.
 */
#define PIN_PCI_ADDRESS	0
/* Read as a u32: 1 when a page is pinned, 0 when none is, or -errno */
#define PIN_PCI_STATE	8

#endif
