//! Mount namespaces: mounts that nobody else sees, and that go with the thread.

#![allow(
    unsafe_code,
    reason = "rustix marks unshare as unsafe for one of its flags"
)]

use std::io;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

/// Gives the calling thread a mount namespace of its own.
///
/// Mounts and unmounts are seen in no other namespace from then on, and those
/// of others not here. Threads that exist already stay where they are; ones
/// that the calling thread starts are in the new namespace.
pub fn enter_private_mounts() -> io::Result<()> {
    // SAFETY: only unsharing the table of file descriptors is unsafe, since
    // other threads may hold numbers of it; it stays shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    Ok(())
}

/// Runs `work` in a thread with a mount namespace of its own (see
/// [`enter_private_mounts`]), which is gone when it is done.
///
/// # Panics
///
/// If `work` does.
pub fn with_private_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let joined = std::thread::scope(|scope| {
        scope
            .spawn(|| enter_private_mounts().map(|()| work()))
            .join()
    });
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
