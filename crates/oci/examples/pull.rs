//! Pulls an image into a store and writes its EROFS image, for `tools/bench`: `pull STORE IMAGE`.
//!
//! The store is made where there is none, and a spool beside it, as machines have.
//! Prints one line of numbers.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use hull_oci::progress::Silent;
use hull_oci::{PullOptions, Reference, Spool, source::SourceOptions};
use hull_store::{Store, Verity};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, image] = arguments.as_slice() else {
        eprintln!("usage: pull STORE IMAGE");
        return ExitCode::from(2);
    };
    match pull(store, image) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprintln!("  {error}");
                source = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn pull(store: &str, image: &str) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    std::fs::create_dir_all(store)?;
    let parent = Path::new(store).parent().ok_or("STORE has a parent")?;
    let spool = Spool::create(File::open(parent)?, "spool", "the spool beside the store")?;
    let store = Store::create(OwnedFd::from(File::open(store)?), Verity::WhereSupported)?;
    let options = PullOptions {
        source: SourceOptions {
            trust_loopback: true,
            ..SourceOptions::default()
        },
        spool: Some(spool),
        ..PullOptions::default()
    };
    let session = store.session()?;
    let unnamed = hull_oci::fetch(&session, &Reference::parse(image)?, &options, &Silent)?;
    let (fetched, memory) = (begin.elapsed(), peak_memory()?);
    let mut tree = unnamed.tree(&store)?;
    let pulled = unnamed.commit(&session)?;
    hull_erofs::transform::oci_root(&mut tree)?;
    session.make_image(&hull_erofs::image::Image::new(&tree)?)?;
    println!(
        "{} layers, {} bytes fetched, wrote {} bytes: {:.2} s, {memory} MB; image written after {:.2} s, {} MB",
        pulled.downloaded_layers,
        pulled.downloaded_bytes,
        session.written(),
        fetched.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        peak_memory()?
    );
    Ok(())
}

/// The most memory that this program had so far, in megabytes: without what its parent had.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // What the kernel calls kB are 1024 bytes.
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.ok_or("no VmHWM")?.trim().parse()?;
    Ok(kibibytes * 1024 / 1_000_000)
}
