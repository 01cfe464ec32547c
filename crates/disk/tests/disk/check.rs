//! Programs that check what hull wrote.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use hull_disk::plan::Partition;
use hull_sys::run::Program;

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    // Checkers say what is wrong on standard output; an error shows the other one.
    let script = "out=$(\"$@\") || { status=$?; printf '%s\\n' \"$out\" >&2; exit $status; }; printf %s \"$out\"";
    let command = Program::new("sh")
        .args(["-c", script, "sh", program])
        .args(arguments);
    let output = command.output().unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&output).into_owned()
}

/// A partition of a disk in a sparse file of its own, for programs that know no offsets.
pub(crate) fn extract(disk: &Path, partition: &Partition) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("partition");
    let mut source = File::open(disk).unwrap();
    source.seek(SeekFrom::Start(partition.offset)).unwrap();
    let mut source = source.take(partition.length);
    let mut target = File::create(&path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            io::Write::write_all(&mut target, &buffer[..read]).unwrap();
        } else {
            target.seek_relative(i64::try_from(read).unwrap()).unwrap();
        }
    }
    target.set_len(partition.length).unwrap();
    (directory, path)
}

/// The path by which e2fsprogs open a file system inside of a disk.
pub(crate) fn at(disk: &Path, partition: &Partition) -> String {
    format!("{}?offset={}", disk.display(), partition.offset)
}

/// What debugfs prints for one request.
pub(crate) fn debugfs(disk: &Path, root: &Partition, request: &str) -> String {
    run("debugfs", ["-R", request, &at(disk, root)])
}
