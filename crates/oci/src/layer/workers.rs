//! The threads that hash contents and put them into the store, for all layers of a pull.

use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use hull_store::{Assembly, ObjectId, Session, StoreError};

use super::guard::Guard;
use super::memory::{Memory, Piece};

/// Jobs that wait for a thread.
const QUEUE: usize = 8;
/// Memory that each layer may need before a content of it goes on: 8 MiB that the
/// store keeps of one, the segment and the batch that are being made, what was decompressed
/// ahead, and the buffers that these begin and end in.
const PER_LAYER: usize = 12 << 20;
/// More of it, so that layers do not wait for each other.
const SHARED: usize = 8 << 20;
/// More processors would wait for the disk.
const MOST: usize = 8;
/// After so many bytes of objects the disk is told to write them, so that it works
/// meanwhile and the barrier at the end of a layer is short. Those that went past the
/// page cache are counted, too: there is little to do for them.
const WRITE_BACK: u64 = 256 << 20;

/// Threads at work for as long as [`run`] is.
#[derive(Debug)]
pub(crate) struct Workers<'s> {
    session: &'s Session,
    memory: Arc<Memory>,
    guard: Arc<Guard>,
    jobs: SyncSender<Job<'s>>,
}

/// The contents of one job that are in the store now, or why not, by their tickets.
pub(super) type Done = Vec<(u64, Result<ObjectId, StoreError>)>;

/// Something to hash.
#[derive(Debug)]
pub(super) enum Work<'s> {
    /// Whole contents, with their tickets.
    Contents(Vec<(u64, Vec<Piece>)>),
    /// A segment of a content that has this ticket.
    Segment {
        ticket: u64,
        assembly: Arc<Assembly<'s, Piece>>,
        place: u64,
        pieces: Vec<Piece>,
    },
}

#[derive(Debug)]
struct Job<'s> {
    work: Work<'s>,
    done: Sender<Done>,
}

/// Runs `body` beside threads that put contents into the store for it, of up to
/// `layers` layers at a time. They end with it.
pub(crate) fn run<'s, T>(
    session: &'s Session,
    layers: usize,
    body: impl FnOnce(&Workers<'s>) -> T,
) -> T {
    let (jobs, queue) = sync_channel(QUEUE);
    let queue = Mutex::new(queue);
    let processors = std::thread::available_parallelism();
    let processors = processors.map_or(2, |count| count.get().min(MOST));
    // One waits for the disk while the other hashes.
    let each = if session.writes_directly() { 2 } else { 1 };
    let count = processors * each;
    let guard = Arc::new(Guard::default());
    let workers = Workers {
        session,
        memory: Memory::new(layers.max(1) * PER_LAYER + SHARED),
        guard: Arc::clone(&guard),
        jobs,
    };
    let (write_back, wanted) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || write_when_wanted(session, &wanted));
        for _ in 0..count {
            let write_back = write_back.clone();
            let (queue, guard) = (&queue, &guard);
            scope.spawn(move || work(session, queue, guard, &write_back));
        }
        // The one above ends with the last of the others.
        drop(write_back);
        // Dropped with the last sender of jobs, before the threads are waited for.
        let workers = workers;
        body(&workers)
    })
}

impl<'s> Workers<'s> {
    pub(super) fn session(&self) -> &'s Session {
        self.session
    }

    /// What all layers may take.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Where the bytes of layers go.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Hands work to the next free thread; waits while many jobs wait.
    pub(super) fn put(&self, work: Work<'s>, done: &Sender<Done>) {
        let done = done.clone();
        // The threads end after the last sender: they are there.
        self.jobs
            .send(Job { work, done })
            .expect("the threads wait for jobs");
    }
}

/// Makes the disk write while the other threads work. That it fails is told by the
/// barrier in front of a record as well, which fails after any that did.
fn write_when_wanted(session: &Session, wanted: &Receiver<()>) {
    while wanted.recv().is_ok() {
        drop(session.barrier());
    }
}

fn work(
    session: &Session,
    queue: &Mutex<Receiver<Job<'_>>>,
    guard: &Guard,
    write_back: &SyncSender<()>,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { work, done }) = next else { return };
        let before = session.written();
        let result = perform(session, guard, work);
        if session.written() / WRITE_BACK != before / WRITE_BACK {
            // That it is at it already is as well.
            write_back.try_send(()).ok();
        }
        // That the layer failed meanwhile and nobody listens is fine.
        drop(done.send(result));
    }
}

fn perform(session: &Session, guard: &Guard, work: Work<'_>) -> Done {
    let has_room = || guard.check_room(session);
    match work {
        Work::Contents(contents) => {
            let (tickets, contents): (Vec<_>, Vec<_>) = contents.into_iter().unzip();
            let put = session.put_all(&contents, has_room);
            tickets.into_iter().zip(put).collect()
        }
        Work::Segment {
            ticket,
            assembly,
            place,
            pieces,
        } => {
            let added = has_room().and_then(|()| assembly.add(place, pieces));
            let added = added.transpose();
            added.map(|done| (ticket, done)).into_iter().collect()
        }
    }
}
