//! A root file system to make images of, and hull.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

pub(crate) fn hull() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hull"))
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().expect("hull was built")
}

#[track_caller]
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(hull().args(arguments));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("results are text")
}

/// A root with a program that needs no library, and a scratch directory beside it.
pub(crate) struct World {
    temp: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        // podman makes a name of the path, which must have small letters only.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let make = || {
            let name = format!(
                "hull-chunk-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::Relaxed)
            );
            let mut builder = tempfile::Builder::new();
            builder.prefix(&name).rand_bytes(0).tempdir()
        };
        // A run that was killed may have left one.
        let is_there = |made: &std::io::Result<_>| {
            let error = made.as_ref().err();
            error.is_some_and(|error: &std::io::Error| error.kind() == ErrorKind::AlreadyExists)
        };
        let mut made = std::iter::repeat_with(make).skip_while(is_there);
        let temp = made
            .next()
            .expect("it does not end")
            .expect("there is room");
        let world = Self { temp };
        for directory in [
            "root/usr/bin",
            "root/etc",
            "root/dev",
            "root/proc",
            "root/sys",
            "root/run",
            "root/tmp",
            "build",
        ] {
            fs::create_dir_all(world.at(directory)).expect("there is room");
        }
        // Linked statically in Debian.
        fs::copy("/sbin/ldconfig", world.at("root/usr/bin/program")).expect("Debian has it");
        fs::write(world.at("root/etc/note"), "of the root").expect("there is room");
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("it is text").to_owned()
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("oci:{}", self.text(name))
    }

    pub(crate) fn chunk(&self, output: &str) -> Command {
        let mut command = hull();
        command.args(["chunk", "--rootfs", &self.text("root"), "--output", output]);
        command
    }
}

pub(crate) fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("it is JSON")
}

/// Bytes that do not repeat, and are others for another seed (not 0).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}
