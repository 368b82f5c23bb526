//! The client under an executor: futures wait for the host's answers, which arrive in another thread, as interrupts do.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll, Waker};
use std::thread::{self, Thread};

use hv_guest::page::CallPage;
use hv_testbed::scripted::ScriptedHost;
use hv_tlfs::vmbus::Version;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{Client, Contact, Error, Notice, Open, PageRun, Progress, Request, Slots, Wake};

use crate::scripted::{DEVICE, answer, offer};

/// The task that waits for a message, and how often one has come.
#[derive(Default)]
struct Tasks {
    waker: Mutex<Option<Waker>>,
    notices: AtomicUsize,
    polls: AtomicUsize,
}

impl Wake for Tasks {
    fn wake(&self, _: &Notice) {
        self.notices.fetch_add(1, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

type TestClient<'h> = Client<'h, &'h ScriptedHost, &'h Tasks>;

/// The client behind the OS's lock.
#[derive(Clone, Copy)]
struct Bus<'a, 'h> {
    client: &'a Mutex<TestClient<'h>>,
    tasks: &'h Tasks,
}

impl<'h> Bus<'_, 'h> {
    /// Waits until `look` is ready: it is called again when a message has come.
    async fn until<T>(self, mut look: impl FnMut(&mut TestClient<'h>) -> Poll<T>) -> T {
        poll_fn(|context| {
            self.tasks.polls.fetch_add(1, Ordering::Relaxed);
            let mut client = self.client.lock().unwrap();
            // The lock is the one with which messages are taken, so none comes in between.
            let looked = look(&mut client);
            if looked.is_pending() {
                *self.tasks.waker.lock().unwrap() = Some(context.waker().clone());
            }
            looked
        })
        .await
    }

    /// Waits for an answer of the host.
    async fn answered<R: Request<&'h ScriptedHost, &'h Tasks>>(self, request: R) -> R::Output {
        let mut request = Some(request);
        self.until(|client| match request.take().map(|request| request.poll(client)) {
            Some(Progress::Done(output)) => Poll::Ready(output),
            Some(Progress::Pending(pending)) => {
                request = Some(pending);
                Poll::Pending
            }
            None => Poll::Pending,
        })
        .await
    }
}

struct Unpark(Thread);

impl task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// Runs from contact to the end.
async fn session(bus: Bus<'_, '_>, host: &ScriptedHost) -> Result<(), Error> {
    bus.client.lock().unwrap().contact(Contact::new(VpIndex(0)))?;
    assert_eq!(bus.until(|client| client.poll_contact()).await?, Version::V6_0);
    bus.client.lock().unwrap().request_offers()?;
    let device = bus.until(|client| client.find(DEVICE).map_or(Poll::Pending, Poll::Ready)).await;
    let rings = PageRun::new(&host.dma(), 4)?;
    let request =
        bus.client.lock().unwrap().create_gpadl(device.channel(), rings).map_err(|back| back.error)?;
    let rings = bus.answered(request).await.map_err(|back| back.error)?;
    let opening = bus.client.lock().unwrap().open(rings, &Open::on(VpIndex(0))).map_err(|back| back.error)?;
    let channel = bus.answered(opening).await.map_err(|back| back.error)?;
    let rings = channel.close(&mut bus.client.lock().unwrap()).map_err(|back| back.error)?;
    let teardown = rings.teardown(&mut bus.client.lock().unwrap()).map_err(|back| back.error)?;
    drop(bus.answered(teardown).await);
    bus.client.lock().unwrap().unload()?;
    bus.until(|client| client.poll_unload()).await;
    Ok(())
}

#[test]
fn futures_wait_for_the_hosts_answers() {
    let host = ScriptedHost::new(16);
    let slots = Slots::<2, 4>::new();
    let tasks = Tasks::default();
    let page = CallPage::new(host.page(hv_testbed::RAM_BASE / 4096 + 15).unwrap(), &host.dma());
    // SAFETY: behind this conduit there is no host that accesses memory: only the test does, by atomics.
    #[expect(unsafe_code, reason = "vouches that there is no host")]
    let client = unsafe { Client::with_waker(&host, page, slots.lend().unwrap(), &tasks) };
    let client = Mutex::new(client);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (_, posted) in host.take_posted() {
                    let mut client = client.lock().unwrap();
                    if posted[0] == 3 {
                        client.take(&offer(3, 1, 0x2003));
                    }
                    if let Some(answer) = answer(&posted) {
                        client.take(&answer);
                    }
                }
                thread::yield_now();
            }
        });
        block_on(session(Bus { client: &client, tasks: &tasks }, &host)).unwrap();
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(host.live(), 0);
    // Contact, offer, all offers, GPADL, open, teardown, unload; and no look but at the beginning and when woken.
    let (notices, polls) = (tasks.notices.load(Ordering::Relaxed), tasks.polls.load(Ordering::Relaxed));
    assert_eq!(notices, 7);
    assert!(polls <= notices + 6, "{polls} looks for {notices} messages");
}
