/* VMBus for kernels in C: the bus, disks and network cards, behind the routines of hv_guest.h.
 * Generated from crates/hv-guest-c by cbindgen: cargo run -p hv-guest-c --example header. MIT OR Apache-2.0.
 *
 * Order of use: hv_guest_init and the SynIC (hv_guest.h); hv_bus_init, hv_bus_connect; hv_bus_find, then
 * hv_storage_open or hv_net_open; in the end hv_storage_close or hv_net_close, then hv_bus_close.
 *
 * Objects (struct hv_bus, hv_storage, hv_net) stand in memory of the kernel: zeros before their first use, in one
 * place while they are open. The library allocates by the callbacks of struct hv_bus_config alone. Calls that can
 * fail return 0 or a positive number, or an error below 0: HV_E_*, hv_error_name, hv_strerror.
 *
 * Contexts. Each object belongs to one call at a time: a second one, be it an interrupt handler's or a callback's,
 * changes nothing and gets HV_E_IN_USE. So a kernel has a lock of its own for each object that several contexts use.
 * Different objects can be used at the same time. The library takes no locks and masks no interrupts.
 *
 *   any context, on any CPU    hv_error_name, hv_strerror, hv_bus_events, hv_storage_submit_*, hv_storage_poll,
 *                              hv_storage_max_transfer, hv_storage_changed, hv_net_send, hv_net_receive,
 *                              hv_net_info, hv_net_link_changed, hv_bus_status
 *   any context, on the VP     hv_bus_interrupt, hv_bus_offers, hv_bus_find
 *   that connected
 *   where the kernel can wait  hv_storage_disks, _read, _write, _flush
 *   where the kernel can wait, hv_bus_connect (it is this VP until hv_bus_close), hv_bus_unload, hv_bus_close,
 *   on the VP that connected   hv_storage_open, _close, hv_net_open, _close
 *
 * A call stays on its VP until it returns: a kernel that moves threads pins this one. On another VP than the one that
 * connected, the calls that are bound to it do nothing and return HV_E_WRONG_VP; do not make them there, because the
 * interrupt handler may find the bus in use meanwhile. A handler that gets HV_E_IN_USE from hv_bus_interrupt has
 * nothing more to do: the call that has the bus takes the messages before it returns, whether it fails or not.
 *
 * A call that waits looks at the host's messages or at the ring, and calls `wait` when there is nothing new. `wait`
 * comes back on the same VP; with interrupts masked, it looks at the event flags (hv_bus_events) before it sleeps. A
 * call on a device leaves the bus to the interrupt handler (or to `wait`). Without `wait` it takes the messages itself,
 * on the VP that connected; on the others it leaves them. While a device that interrupts another VP is opened, `wait`
 * sleeps for a moment alone.
 *
 * Stack. hv_net_open and hv_net_close take up to 32 KiB, hv_storage_open and hv_storage_close 16 KiB, other calls
 * 4 KiB, the kernel's callbacks not counted.
 *
 * Memory. What a call is given belongs to the kernel again when it returns, except the memory of hv_storage_submit_*,
 * which is the host's until the request comes back. Where a call fails with HV_E_TIMED_OUT while a device is opened,
 * memory that the host may still write is not given back. */

#ifndef HV_VMBUS_H
#define HV_VMBUS_H

#include <stddef.h>
#include <stdint.h>

// Channels that a bus has places for: one for each device that the host offers, and each sub-channel.
#define HV_BUS_CHANNELS 64

// GPADLs that a bus has places for: one for each open device, and two more for each network card.
#define HV_BUS_GPADLS 72

// Words of a `struct hv_bus`.
#define HV_BUS_WORDS 2048

// `hv_offer.kind`: a device that this library has no driver for.
#define HV_DEVICE_OTHER 0

// `hv_offer.kind`: a SCSI controller, for `hv_storage_open`.
#define HV_DEVICE_STORAGE 1

// `hv_offer.kind`: a network card, for `hv_net_open`.
#define HV_DEVICE_NET 2

// `notice`: the host offers this channel from now on.
#define HV_NOTICE_OFFERED 1

// `notice`: the host has taken this channel away. Close the device.
#define HV_NOTICE_REMOVED 2

// `notice`: the connection has ended.
#define HV_NOTICE_UNLOADED 3

// `vp` of a device: the host interrupts no VP, and the kernel polls.
#define HV_VP_NONE 4294967295

// A pointer is null or not aligned, a callback is missing, or a value is out of its range.
#define HV_E_ARGUMENT (-1)

// The object or structure has another size than the library's: header and library are of different versions.
#define HV_E_SIZE (-2)

// The object is not open.
#define HV_E_CLOSED (-3)

// Another call uses the object now, it is open already, or devices of the bus are open.
#define HV_E_IN_USE (-4)

// `hv_guest_init` has not found Hyper-V.
#define HV_E_NO_HYPERV (-5)

// There is no connection to the host, or it has ended.
#define HV_E_NOT_CONNECTED (-6)

// The host speaks no version of the protocol that the library speaks.
#define HV_E_NO_VERSION (-7)

// The host refused the request: `hv_bus_status`.
#define HV_E_REFUSED (-8)

// The host's answer has a length or a value that it cannot have.
#define HV_E_MALFORMED (-9)

// The host offers no such device or channel, or the controller has no such disk.
#define HV_E_NOT_FOUND (-10)

// The host has removed the device, or the connection has ended: close the device.
#define HV_E_GONE (-11)

// All places for channels and GPADLs are taken.
#define HV_E_NO_SLOT (-12)

// The kernel gave no memory, or would not share it.
#define HV_E_NO_MEMORY (-13)

// The hypervisor took no message or signal: `hv_bus_status`.
#define HV_E_POST (-14)

// There is no room now, or the device is busy: poll, then try again.
#define HV_E_AGAIN (-15)

// The host has corrupted a ring: close the device.
#define HV_E_DEAD (-16)

// The host did not answer in time, or the kernel's `wait` ended the wait.
#define HV_E_TIMED_OUT (-17)

// The host's messages are for another VP than the calling one.
#define HV_E_WRONG_VP (-18)

// Blocks beyond the end of the disk, or bytes that are not a whole number of blocks.
#define HV_E_RANGE (-19)

// More bytes than one transfer or frame has.
#define HV_E_TOO_LONG (-20)

// The device cannot do this.
#define HV_E_UNSUPPORTED (-21)

// The host or the disk failed the command: `hv_bus_status`, or the completion.
#define HV_E_IO (-22)

// Words of a `struct hv_net`.
#define HV_NET_WORDS 1280

// Requests of a controller in flight at most.
#define HV_STORAGE_DEPTH 16

// Words of a `struct hv_storage`.
#define HV_STORAGE_WORDS 512

// A connection to VMBus, in memory of the kernel: zeros before `hv_bus_init`, then in one place until `hv_bus_close`
// has returned 0, or for good.
struct hv_bus {
  // The library's.
  uint64_t opaque[HV_BUS_WORDS];
};

// What the kernel gives to a bus. `hv_bus_init` copies it. Callbacks that are not needed are null.
struct hv_bus_config {
  // sizeof(struct hv_bus_config).
  size_t size;
  // The first argument of every callback.
  void *context;
  // Allocates pages of 4096 bytes for the host and this library: neighbours in the kernel's addresses, aligned to
  // 4096. Null if there are none. A kernel with larger pages rounds up.
  void *(*allocate)(void *context, size_t pages);
  // Frees what `allocate` returned.
  void (*free)(void *context, void *memory, size_t pages);
  // Lets the host access pages that are allocated or lent; not 0 if it cannot. Null where the host can access all
  // memory, as in every partition that is not isolated.
  int (*share)(void *context, void *memory, size_t pages);
  // Ends the host's access to pages that were shared, when the host has given them up.
  void (*unshare)(void *context, void *memory, size_t pages);
  // Sleeps until the next VMBus interrupt, of the CPU whose VP the device interrupts, or for a moment. Not 0 ends
  // the wait: HV_E_TIMED_OUT. A kernel without a handler of that interrupt calls `hv_bus_interrupt` in it, whatever
  // that returns. Null: the calls that wait poll.
  int (*wait)(void *context);
  // Is told what a message of the host changed: HV_NOTICE_*, and the channel.
  void (*notice)(void *context, uint32_t notice, uint32_t channel);
  // The message page of the VP that connects, as it was given to `hv_set_simp`. The source's slot in it is this
  // library's until `hv_bus_close`.
  void *messages;
  // The source (SINT) that the host's messages come to: 2, unless the kernel has reasons.
  uint32_t sint;
  // How long a call waits for the host at most, in 100 ns by the reference clock. 0: as long as `wait` does.
  uint64_t timeout;
};

// A device or sub-channel that the host offers.
struct hv_offer {
  // What kind of device: its GUID, as bytes in memory.
  uint8_t interface_id[16];
  // Which one of its kind: a GUID that stays the same.
  uint8_t instance_id[16];
  // HV_DEVICE_*.
  uint32_t kind;
  // Number of the channel, 1 to 2047: it is also the event flag.
  uint32_t channel;
  // 0: the device's first channel, which its driver opens.
  uint32_t subchannel;
};

// A network card, in memory of the kernel: zeros before `hv_net_open`, then in one place until `hv_net_close` has
// returned 0, or for good.
struct hv_net {
  // The library's.
  uint64_t opaque[HV_NET_WORDS];
};

// What is known of a card.
struct hv_net_info {
  // Its address.
  uint8_t mac[6];
  // Not 0: the link is up.
  uint8_t up;
  // Not 0: `hv_net_send` has room for a frame.
  uint8_t can_send;
  // Maximum payload size of a frame: the bytes after its header of 14 bytes.
  uint32_t mtu;
  // Version of the card's protocol, NVSP: 0x60001 is 6.1.
  uint32_t version;
  // Frames that were sent.
  uint64_t sent;
  // Frames that were received.
  uint64_t received;
  // Messages of the host that are not frames, or frames longer than the buffer for them.
  uint64_t receive_drops;
  // Frames that the host has completed with an error.
  uint64_t send_errors;
};

// A SCSI controller, in memory of the kernel: zeros before `hv_storage_open`, then in one place until
// `hv_storage_close` has returned 0, or for good.
struct hv_storage {
  // The library's.
  uint64_t opaque[HV_STORAGE_WORDS];
};

// A disk, as it was when it was looked at.
struct hv_disk {
  // Number of the bus.
  uint8_t path;
  // Target.
  uint8_t target;
  // Logical unit.
  uint8_t lun;
  // Not 0: it refuses to be written.
  uint8_t read_only;
  // Bytes of a block: a power of 2, 512 at least.
  uint32_t block_size;
  // Number of blocks.
  uint64_t blocks;
  // Blocks that are discarded at once at most; 0: it does not discard.
  uint32_t max_discard;
};

// A request that has ended.
struct hv_storage_completion {
  // What the request was submitted with.
  void *tag;
  // Its memory, which is the kernel's again; null for a flush and a discard.
  void *memory;
  // 0, or why it failed: HV_E_IO, HV_E_AGAIN, HV_E_NOT_FOUND, HV_E_MALFORMED.
  int error;
  // As for `hv_bus_status`, for HV_E_IO.
  uint32_t status;
  // Bytes moved.
  uint32_t bytes;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens a bus, which is not connected yet. `size` is sizeof(struct hv_bus). Returns 0 or an error: HV_E_ARGUMENT,
// HV_E_SIZE, HV_E_NO_HYPERV, HV_E_IN_USE if it is open, HV_E_NO_MEMORY.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` of zeros, or one that was closed, which stays in place until it is
// closed. `config` is null or points to a structure that begins with its size and is as long as that says. Its
// callbacks do what their fields say, from the contexts in which the calls of this header are made, and do not use the
// object of the call that they serve. Memory that `allocate` returns is valid for reads and writes and used by nothing
// else until `free`, and `virt_to_phys` of `struct hv_guest_os` translates it. `messages` is null or the enabled
// message page of the VP that connects, which nothing else uses but by aligned words until the bus is closed. There is
// one bus.
int hv_bus_init(struct hv_bus *bus,
                size_t size,
                const struct hv_bus_config *config);

// Makes contact with the host, has it send its messages to the calling VP, and waits for all offers. A connection that
// stands, of this kernel or of one before, ends with that. Returns the version of VMBus, the major number in bits
// 31:16, or an error: HV_E_IN_USE while devices are open, HV_E_NO_VERSION, HV_E_REFUSED, HV_E_TIMED_OUT, HV_E_POST,
// HV_E_WRONG_VP on another VP than before.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_bus_connect(struct hv_bus *bus);

// Takes the messages that the host has sent: in the handler of the VMBus interrupt on the VP that connected, or now
// and then in a kernel that polls. Does not wait. Returns how many they were, or an error. HV_E_IN_USE is none in an
// interrupt handler on that VP: the call that has the bus is on the same VP, and takes them before it returns.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_bus_interrupt(struct hv_bus *bus);

// Clears the event flags of a source in an event flags page, and passes the channel of each that was set to `each`:
// poll the device with that channel. A flag that stays set raises no further interrupt, so the handler of the VMBus
// interrupt calls this on every VP, with that VP's page, as it was given to `hv_set_siefp`. Returns how many they
// were, or HV_E_ARGUMENT. Any context; needs no bus.
//
// # Safety
//
// `events` is null or an enabled event flags page. `each` is null or may be called with the context.
int hv_bus_events(void *events,
                  uint32_t sint,
                  void (*each)(void *context, uint32_t channel),
                  void *context);

// Writes the channels that are offered to `offers`, which has room for `room` of them, by no order. Returns how many
// there are, which may be more, or an error: HV_E_WRONG_VP on another VP than the one that connected.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use. `offers` is valid for writes of
// `room` entries, or null if that is 0.
int hv_bus_offers(struct hv_bus *bus,
                  struct hv_offer *offers,
                  size_t room);

// Finds device number `n`, from 0 on, of a kind: HV_DEVICE_STORAGE, HV_DEVICE_NET. Their order is that of their
// channels. Returns the channel, for `hv_storage_open` or `hv_net_open`, or an error: HV_E_NOT_FOUND,
// HV_E_NOT_CONNECTED, HV_E_WRONG_VP.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_bus_find(struct hv_bus *bus,
                uint32_t kind,
                uint32_t n);

// Returns the host's own number behind the last error of the bus or of a device: an NTSTATUS, a hypercall status, the
// status of a card, or of a disk's command its sense key, code and qualifier in bits 23:16, 15:8 and 7:0; or, with bit
// 31 set, SRB status and SCSI status in bits 15:8 and 7:0. 0: there was none since `hv_bus_init`. Any context.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
uint32_t hv_bus_status(struct hv_bus *bus);

// Ends the connection and waits for the host, whatever is open: before another kernel starts, or after a crash. All
// devices are gone then, and can be closed. Returns 0 or an error: HV_E_TIMED_OUT, HV_E_POST, HV_E_WRONG_VP.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_bus_unload(struct hv_bus *bus);

// Ends the connection, if there is one, and closes the bus: its memory is the kernel's again. Returns 0 or an error,
// and the bus is still open: HV_E_IN_USE while devices are open, HV_E_TIMED_OUT, HV_E_POST, HV_E_WRONG_VP.
//
// # Safety
//
// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_bus_close(struct hv_bus *bus);

// Returns the name of an error, such as "HV_E_TIMED_OUT". Any context.
const char *hv_error_name(int error);

// Returns what an error means, and what to do about it. Any context.
const char *hv_strerror(int error);

// Opens the network card with this channel (`hv_bus_find`), and waits until it is initialized. The host interrupts
// `vp` when there are frames; HV_VP_NONE: the kernel polls. `mtu` is what the kernel wants at most, such as 1500; the
// card may have less. `size` is sizeof(struct hv_net). Waits; on the VP that connected. Takes some 160 pages of the
// kernel's allocator. Returns as `hv_storage_open`.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` of zeros, or one that was closed, which stays in place until it is
// closed. `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_net_open(struct hv_net *net,
                size_t size,
                struct hv_bus *bus,
                uint32_t channel,
                uint32_t vp,
                uint16_t mtu);

// Writes what is known of a card to `info`. Does not wait. Returns 0 or an error.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` that was zeros before its first use. `info` is null or valid for
// writes.
int hv_net_info(struct hv_net *net,
                struct hv_net_info *info);

// Sends a frame with its Ethernet header: 14 bytes to the MTU and 14. It is copied. Does not wait. Returns 0 or an
// error: HV_E_AGAIN if there is no room, and then `hv_net_receive` makes some; HV_E_TOO_LONG for any other length;
// HV_E_GONE, HV_E_DEAD.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` that was zeros before its first use. `frame` is null or valid for reads
// of `len` bytes, which nothing else writes during the call.
int hv_net_send(struct hv_net *net,
                const void *frame,
                size_t len);

// Copies the next frame that has arrived, with its Ethernet header, and takes the completions of frames that were
// sent. A frame longer than `room` is dropped. Does not wait. Returns its length; 0 if there is none now: call it
// until then; or an error: HV_E_GONE, HV_E_DEAD.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` that was zeros before its first use. `into` is null or valid for writes
// of `room` bytes, which nothing else accesses during the call.
int hv_net_receive(struct hv_net *net,
                   void *into,
                   size_t room);

// Returns 1, once, if the link has gone up or down, or leads to another network, since the last call; 0 if not, or an
// error. Does not wait.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` that was zeros before its first use.
int hv_net_link_changed(struct hv_net *net);

// Halts a card and closes it. All memory is the kernel's then; frames in flight may or may not have been sent. Waits;
// on the VP that connected. Returns 0, or an error, and can be called again: HV_E_TIMED_OUT, HV_E_POST, HV_E_IN_USE,
// HV_E_WRONG_VP.
//
// # Safety
//
// `net` is null or points to a `struct hv_net` that was zeros before its first use; `bus` is null or points to the bus
// that it was opened on.
int hv_net_close(struct hv_net *net,
                 struct hv_bus *bus);

// Opens the SCSI controller with this channel (`hv_bus_find`), and waits until it is initialized. The host interrupts
// `vp` when a request has ended; HV_VP_NONE: the kernel polls. `size` is sizeof(struct hv_storage). Waits; on the VP
// that connected. Returns 0 or an error: HV_E_ARGUMENT, HV_E_SIZE, HV_E_IN_USE, HV_E_NOT_FOUND, HV_E_REFUSED,
// HV_E_NO_MEMORY, HV_E_TIMED_OUT, HV_E_WRONG_VP.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` of zeros, or one that was closed, which stays in place until it
// is closed. `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
int hv_storage_open(struct hv_storage *storage,
                    size_t size,
                    struct hv_bus *bus,
                    uint32_t channel,
                    uint32_t vp);

// Looks for the controller's disks, and writes them to `disks`, which has room for `room` of them. Waits. Returns how
// many there are, which may be more, or an error.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use. `disks` is valid for
// writes of `room` entries, or null if that is 0.
int hv_storage_disks(struct hv_storage *storage,
                     struct hv_disk *disks,
                     size_t room);

// Returns the bytes of one request at most, or an error. Does not wait.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use.
int hv_storage_max_transfer(struct hv_storage *storage);

// Returns 1, once, if the host said since the last call that disks have come, gone or changed: look at all of them. 0
// if not, or an error. Does not wait.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use.
int hv_storage_changed(struct hv_storage *storage);

// Closes a controller, whatever is in flight: `each` gets the tag of every request that has not been polled, which may
// or may not have happened. All memory is the kernel's then. Waits; on the VP that connected. Returns 0, or an error,
// and can be called again: HV_E_TIMED_OUT, HV_E_POST, HV_E_IN_USE, HV_E_WRONG_VP.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `bus` is null or points to
// the bus that it was opened on. `each` is null or may be called with the context.
int hv_storage_close(struct hv_storage *storage,
                     struct hv_bus *bus,
                     void (*each)(void *context, void *tag),
                     void *context);

// Reads blocks of a disk: `bytes` bytes, which may be of any memory. They are copied. Waits. Returns 0 or an error:
// HV_E_RANGE, HV_E_IO, HV_E_TIMED_OUT, HV_E_GONE, HV_E_AGAIN if HV_STORAGE_DEPTH requests are in flight.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk. `into` is null or valid for writes of `bytes` bytes, which nothing else accesses during the call.
int hv_storage_read(struct hv_storage *storage,
                    const struct hv_disk *disk,
                    uint64_t block,
                    void *into,
                    size_t bytes);

// Writes blocks of a disk: `bytes` bytes, which may be of any memory. They are copied. Waits. Returns as
// `hv_storage_read`.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk. `from` is null or valid for reads of `bytes` bytes, which nothing else writes during the call.
int hv_storage_write(struct hv_storage *storage,
                     const struct hv_disk *disk,
                     uint64_t block,
                     const void *from,
                     size_t bytes);

// Brings all that was written to stable storage. Waits. Returns as `hv_storage_read`.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk.
int hv_storage_flush(struct hv_storage *storage,
                     const struct hv_disk *disk);

// Submits a read of blocks into `memory`, without a copy. Does not wait. Returns 0, and `hv_storage_poll` reports the
// end; or an error, and `memory` is still the kernel's: HV_E_AGAIN, HV_E_RANGE, HV_E_TOO_LONG, HV_E_GONE.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk. `memory` begins at a multiple of 4096, or an error is returned. The pages of 4096 bytes that its `bytes`
// bytes lie in are valid for reads and writes, and the kernel does not access them from this call on, if it returns 0,
// until `hv_storage_poll` returns the request, or `hv_storage_close` returns 0.
int hv_storage_submit_read(struct hv_storage *storage,
                           const struct hv_disk *disk,
                           uint64_t block,
                           void *memory,
                           uint32_t bytes,
                           void *tag);

// Submits a write of blocks from `memory`, without a copy. `durable` not 0: it ends when they are on stable storage.
// Does not wait. Returns as `hv_storage_submit_read`.
//
// # Safety
//
// As for `hv_storage_submit_read`.
int hv_storage_submit_write(struct hv_storage *storage,
                            const struct hv_disk *disk,
                            uint64_t block,
                            int durable,
                            void *memory,
                            uint32_t bytes,
                            void *tag);

// Submits a flush: it ends when all that was written before is on stable storage. Does not wait. Returns as
// `hv_storage_submit_read`.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk.
int hv_storage_submit_flush(struct hv_storage *storage,
                            const struct hv_disk *disk,
                            void *tag);

// Submits a discard of up to `max_discard` blocks: they need not be kept. Its list takes a page of the kernel's
// allocator. Does not wait. Returns as `hv_storage_submit_read`, or HV_E_UNSUPPORTED.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `disk` is null or points
// to a disk.
int hv_storage_submit_discard(struct hv_storage *storage,
                              const struct hv_disk *disk,
                              uint64_t block,
                              uint32_t count,
                              void *tag);

// Stores the next request that has ended, in the order in which the host ends them. Does not wait. Returns 1; 0 if
// there is none now: call it until then; or an error, such as HV_E_DEAD or HV_E_GONE, after which the requests in
// flight come back with `hv_storage_close` alone.
//
// # Safety
//
// `storage` is null or points to a `struct hv_storage` that was zeros before its first use. `completion` is null or
// valid for writes.
int hv_storage_poll(struct hv_storage *storage,
                    struct hv_storage_completion *completion);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* HV_VMBUS_H */
