/* Uses every routine of hv_vmbus.h: a disk with several requests in flight, and a network card, each by interrupt. On
   two CPUs the second one has the disk, and the first one the card, at the same time.
   crates/hv-guest-c/tests/header.rs holds this file to the header. */
#include "hv_guest.h"
#include "hv_vmbus.h"
#include "platform.h"

#define SINT 2
#define BLOCK 512
#define IN_FLIGHT 8
#define POOL_PAGES 512
#define SECOND 10000000UL

static struct hv_bus bus;
static struct hv_storage storage;
static struct hv_net net;
static struct hv_disk disk;
static _Alignas(PAGE) uint8_t message_pages[MAX_CPUS][PAGE], event_pages[MAX_CPUS][PAGE];
static _Alignas(PAGE) uint8_t pool[POOL_PAGES][PAGE], buffers[IN_FLIGHT][PAGE];
static uint8_t pool_taken[POOL_PAGES];
static uint32_t pool_lock, cpus, intid;
static volatile uint32_t disk_channel, card_channel, stage, allocated, shared, removed;
static volatile uint32_t disk_events, card_events;
static volatile bool polls;

/* The kernel's memory for the host. Interrupts are masked outside wait(), so a spin lock does. */

static void lock(void)
{
    while (__atomic_exchange_n(&pool_lock, 1, __ATOMIC_ACQUIRE))
        ;
}
static void unlock(void) { __atomic_store_n(&pool_lock, 0, __ATOMIC_RELEASE); }

static void *allocate(void *context, size_t pages)
{
    size_t run = 0;
    void *memory = NULL;
    (void)context;
    lock();
    for (size_t at = 0; at < POOL_PAGES && !memory; at++) {
        run = pool_taken[at] ? 0 : run + 1;
        if (run == pages)
            memory = pool[at + 1 - pages];
    }
    for (size_t at = 0; memory && at < pages; at++)
        pool_taken[((uint8_t *)memory - pool[0]) / PAGE + at] = 1;
    allocated += memory ? (uint32_t)pages : 0;
    unlock();
    return memory;
}

static void release(void *context, void *memory, size_t pages)
{
    (void)context;
    lock();
    for (size_t at = 0; at < pages; at++)
        pool_taken[((uint8_t *)memory - pool[0]) / PAGE + at] = 0;
    allocated -= (uint32_t)pages;
    unlock();
}

/* The host can access all memory here. The count shows that what is lent comes back. */
static int share(void *context, void *memory, size_t pages)
{
    (void)context, (void)memory;
    __atomic_fetch_add(&shared, (uint32_t)pages, __ATOMIC_RELAXED);
    return 0;
}
static void unshare(void *context, void *memory, size_t pages)
{
    (void)context, (void)memory;
    __atomic_fetch_sub(&shared, (uint32_t)pages, __ATOMIC_RELAXED);
}

/* Interrupts */

static void notice(void *context, uint32_t kind, uint32_t channel)
{
    (void)context, (void)channel;
    removed += kind == HV_NOTICE_REMOVED;
}

static void each_channel(void *context, uint32_t channel)
{
    (void)context;
    if (channel == disk_channel)
        __atomic_fetch_add(&disk_events, 1, __ATOMIC_RELAXED);
    if (channel == card_channel)
        __atomic_fetch_add(&card_events, 1, __ATOMIC_RELAXED);
}

/* ANCHOR: interrupt */
/* Clears the flags, without which no further interrupt comes. */
static int take_events(void) { return hv_bus_events(event_pages[cpu_number()], SINT, each_channel, NULL); }

static void vmbus_irq(void)
{
    take_events();
    /* Another call may have the bus, and takes the messages then. */
    if (cpu_number() == 0)
        hv_bus_interrupt(&bus);
}

/* Sleeps until the next interrupt. Interrupts are masked, so none comes between the look and the WFI. */
static int sleep(void *context)
{
    (void)context;
    if (!take_events() && !polls)
        wait_for_interrupt();
    return 0;
}
/* ANCHOR_END: interrupt */

static void synic(void)
{
    uint32_t cpu = cpu_number();
    hv_set_simp(virt_to_phys(message_pages[cpu]) | 1);
    hv_set_siefp(virt_to_phys(event_pages[cpu]) | 1);
    hv_enable_vmbus_irq();
    hv_set_synint_state(SINT, intid);
    hv_set_synic_state(1);
}

/* Says which call failed, by the error's name. */
static int good(const char *what, int result)
{
    check(what, result >= 0);
    if (result < 0) {
        line_begin();
        print("c-guest: ");
        print(hv_error_name(result));
        print(": ");
        print(hv_strerror(result));
        print("\n");
        line_end();
    }
    return result;
}

/* The disk */

static uint8_t pattern(uint64_t block, size_t at) { return (uint8_t)(block * 31 + at * 7 + 5); }

/* ANCHOR: poll */
/* Waits for requests, and says whether each ended once, well, and with its own memory. */
static bool ended(uint32_t count)
{
    struct hv_storage_completion done;
    uint32_t seen = 0;
    while (count > 0) {
        int polled = hv_storage_poll(&storage, &done);
        uint64_t tag = (uint64_t)done.tag;
        if (polled == 0) {
            sleep(NULL);
            continue;
        }
        if (polled < 0 || done.error || tag >= IN_FLIGHT || (seen & 1U << tag) || done.memory != buffers[tag])
            return false;
        seen |= 1U << tag;
        count--;
    }
    return true;
}
/* ANCHOR_END: poll */

static void *tag(uint64_t number) { return (void *)number; }

static void lost(void *context, void *tag)
{
    (void)tag;
    ++*(uint32_t *)context;
}

static void use_disk(void)
{
    static uint8_t sectors[3 * BLOCK];
    struct hv_storage_completion done;
    uint64_t last = disk.blocks - IN_FLIGHT * PAGE / BLOCK;
    uint32_t sum = 0;
    bool same = true;
    good("hv_storage_read", hv_storage_read(&storage, &disk, 1, sectors, sizeof(sectors)));
    for (size_t at = 0; at < sizeof(sectors); at++)
        sum = (sum << 5 | sum >> 27) ^ sectors[at];
    line_begin();
    print("c-guest: sectors 1 to 3 sum to ");
    print_number(sum);
    print("\n");
    line_end();
    for (size_t at = 0; at < BLOCK; at++)
        sectors[at] = pattern(0, at);
    good("hv_storage_write", hv_storage_write(&storage, &disk, 0, sectors, BLOCK));
    good("hv_storage_flush", hv_storage_flush(&storage, &disk));
    check("hv_storage_read beyond the end", hv_storage_read(&storage, &disk, disk.blocks, sectors, BLOCK) == HV_E_RANGE);

    /* ANCHOR: flight */
    /* Eight writes in flight, then eight reads of the same. */
    for (uint64_t n = 0; n < IN_FLIGHT; n++) {
        for (size_t at = 0; at < PAGE; at++)
            buffers[n][at] = pattern(last + n, at);
        good("hv_storage_submit_write", hv_storage_submit_write(&storage, &disk, last + n * 8, n == 7, buffers[n], PAGE, tag(n)));
    }
    check("eight writes end", ended(IN_FLIGHT));
    /* ANCHOR_END: flight */
    for (uint64_t n = 0; n < IN_FLIGHT; n++) {
        for (size_t at = 0; at < PAGE; at++)
            buffers[n][at] = 0;
        good("hv_storage_submit_read", hv_storage_submit_read(&storage, &disk, last + n * 8, buffers[n], PAGE, tag(n)));
    }
    check("eight reads end", ended(IN_FLIGHT));
    for (uint64_t n = 0; n < IN_FLIGHT; n++)
        for (size_t at = 0; at < PAGE; at++)
            same &= buffers[n][at] == pattern(last + n, at);
    check("what was written is read", same);
    take_events();
    check("their ends set the channel's flag", disk_events > 0);

    good("hv_storage_submit_flush", hv_storage_submit_flush(&storage, &disk, tag(77)));
    while (hv_storage_poll(&storage, &done) == 0)
        sleep(NULL);
    check("the flush ends", done.tag == tag(77) && !done.error && !done.memory);
    /* The last page of the patterns need not be kept. */
    good("hv_storage_submit_discard", hv_storage_submit_discard(&storage, &disk, disk.blocks - 8, 8, tag(78)));
    while (hv_storage_poll(&storage, &done) == 0)
        sleep(NULL);
    check("the discard ends", done.tag == tag(78) && !done.error && !done.memory);
    check("hv_storage_max_transfer", hv_storage_max_transfer(&storage) >= 65536);
    check("hv_storage_changed", hv_storage_changed(&storage) == 0);
    check("memory that begins in a page is refused",
          hv_storage_submit_read(&storage, &disk, 0, buffers[0] + BLOCK, BLOCK, tag(0)) == HV_E_ARGUMENT);
}

/* How far the two CPUs are. */
static void stage_is(uint32_t now) { __atomic_store_n(&stage, now, __ATOMIC_RELEASE); }
static void wait_for_stage(uint32_t wanted)
{
    uint64_t end = hyperv_cs() + PATIENCE * SECOND;
    while (__atomic_load_n(&stage, __ATOMIC_ACQUIRE) != wanted && hyperv_cs() < end)
        ;
    check("the other CPU is on time", stage == wanted);
}

/* The second CPU */
void devices_secondary(uint32_t cpu)
{
    gic_init_cpu();
    check("hv_cpu_init", hv_cpu_init() == 0);
    synic();
    stage_is(1);
    wait_for_stage(2);
    use_disk();
    (void)cpu;
    /* It keeps its SynIC until the channel is closed whose interrupts it has. */
    stage_is(3);
    wait_for_stage(4);
    hv_disable_vmbus_irq();
    check("hyperv_cleanup_cpu", hyperv_cleanup_cpu() == 0);
    stage_is(5);
}

/* The card: an ARP request for QEMU's gateway (RFC 826), and its answer. */
static void use_card(void)
{
    static const uint8_t own[4] = { 10, 0, 2, 15 }, gateway[4] = { 10, 0, 2, 2 };
    static const uint8_t arp[10] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
    uint8_t frame[42] = { 0 }, answer[1518];
    struct hv_net_info info;
    bool answered = false;
    good("hv_net_info", hv_net_info(&net, &info));
    check("the card is up", info.up && info.can_send && info.mtu == 1500 && info.version == 0x60001);
    for (int at = 0; at < 6; at++) {
        frame[at] = 0xff;
        frame[6 + at] = frame[22 + at] = info.mac[at];
    }
    for (int at = 0; at < 10; at++)
        frame[12 + at] = arp[at];
    for (int at = 0; at < 4; at++) {
        frame[28 + at] = own[at];
        frame[38 + at] = gateway[at];
    }
    good("hv_net_send", hv_net_send(&net, frame, sizeof(frame)));
    check("a frame without a header is refused", hv_net_send(&net, frame, 13) == HV_E_TOO_LONG);
    while (!answered) {
        int length = good("hv_net_receive", hv_net_receive(&net, answer, sizeof(answer)));
        if (length < 0)
            return;
        if (length == 0) {
            sleep(NULL);
            continue;
        }
        answered = length >= 42 && answer[12] == 8 && answer[13] == 6 && answer[21] == 2;
        for (int at = 0; at < 4; at++)
            answered = answered && answer[28 + at] == gateway[at];
    }
    check("the answer is for us", answer[0] == info.mac[0] && answer[5] == info.mac[5]);
    take_events();
    check("and sets the channel's flag", card_events > 0);
    line_begin();
    print("c-guest: the gateway is at ");
    for (int at = 22; at < 28; at++) {
        print_number(answer[at]);
        print(at < 27 ? ":" : "\n");
    }
    line_end();
    good("hv_net_info", hv_net_info(&net, &info));
    check("its counts", info.sent == 1 && info.received >= 1 && !info.send_errors);
    check("hv_net_link_changed", hv_net_link_changed(&net) >= 0);
}

void devices(const struct machine *machine)
{
    static struct hv_bus_config config;
    struct hv_offer offers[16];
    uint32_t flights = 0;
    int count;
    cpus = machine->cpus;
    intid = machine->vmbus_intid;
    check("hv_cpu_init", hv_cpu_init() == 0);
    hv_setup_vmbus_irq(vmbus_irq);
    synic();
    /* ANCHOR: connect */
    config = (struct hv_bus_config){ .size = sizeof(config), .allocate = allocate, .free = release, .share = share,
                                     .unshare = unshare, .wait = sleep, .notice = notice,
                                     .messages = message_pages[0], .sint = SINT, .timeout = PATIENCE * SECOND };
    check("hv_bus_connect before hv_bus_init", hv_bus_connect(&bus) == HV_E_CLOSED);
    check("hv_bus_init with another size", hv_bus_init(&bus, sizeof(bus) - 8, &config) == HV_E_SIZE);
    good("hv_bus_init", hv_bus_init(&bus, sizeof(bus), &config));
    check("hv_bus_connect", hv_bus_connect(&bus) == 0x60000);
    /* ANCHOR_END: connect */
    count = hv_bus_offers(&bus, offers, 16);
    check("hv_bus_offers", count >= 2);
    disk_channel = (uint32_t)good("hv_bus_find a controller", hv_bus_find(&bus, HV_DEVICE_STORAGE, 0));
    card_channel = (uint32_t)good("hv_bus_find a card", hv_bus_find(&bus, HV_DEVICE_NET, 0));
    check("hv_bus_find of what is not there", hv_bus_find(&bus, HV_DEVICE_NET, 1) == HV_E_NOT_FOUND);
    check("hv_bus_status", hv_bus_status(&bus) == 0);
    if (cpus > 1) {
        check("CPU_ON", start_cpu(1) == 0);
        wait_for_stage(1);
    }
    /* On two CPUs the disk's interrupts come to the other one. */
    polls = cpus > 1;
    good("hv_storage_open", hv_storage_open(&storage, sizeof(storage), &bus, disk_channel, cpus > 1 ? 1 : 0));
    check("one disk", hv_storage_disks(&storage, &disk, 1) == 1 && disk.block_size == BLOCK);
    polls = false;
    good("hv_net_open", hv_net_open(&net, sizeof(net), &bus, card_channel, 0, 1500));
    check("a bus with open devices stays open", hv_bus_close(&bus) == HV_E_IN_USE);
    if (cpus > 1) {
        stage_is(2);
        use_card();
        wait_for_stage(3);
    } else {
        use_disk();
        use_card();
    }
    good("hv_net_close", hv_net_close(&net, &bus));
    /* A request that is in flight when the controller is closed comes back as well. */
    good("hv_storage_submit_read", hv_storage_submit_read(&storage, &disk, 0, buffers[0], PAGE, tag(1)));
    good("hv_storage_close", hv_storage_close(&storage, &bus, lost, &flights));
    check("what was in flight comes back", flights == 1);
    if (cpus > 1) {
        stage_is(4);
        wait_for_stage(5);
    }
    check("a closed controller", hv_storage_max_transfer(&storage) == HV_E_CLOSED);
    good("hv_bus_unload", hv_bus_unload(&bus));
    good("hv_bus_close", hv_bus_close(&bus));
    check("all memory comes back", allocated == 0 && shared == 0);
    check("nothing was removed", removed == 0);
    hv_disable_vmbus_irq();
    hv_remove_vmbus_irq();
    check("hyperv_cleanup", hyperv_cleanup() == 0);
}
