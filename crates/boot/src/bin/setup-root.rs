//! `setup-root`: puts the root of a deployment in place of the physical root,
//! in the initrd. See [`hull_boot::setup_root`].

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the journal through its standard streams"
)]

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use hull_boot::setup_root::{self, Options};
use hull_sys::durable;

const USAGE: &str =
    "usage: setup-root [--sysroot DIR] [--run DIR] [--cmdline TEXT] [--stop-after N]

Mounts the image that the kernel command line names with composefs.digest=, with the
/etc and /var of the deployment that it names with hull.deployment=, in place of the
physical root. Does nothing if no image is named.

  --sysroot DIR   where the physical root is mounted, default /sysroot
  --run DIR       directory for run-time files, default /run
  --cmdline TEXT  use this instead of /proc/cmdline
  --stop-after N  for tests: die in place of the durable step after the N-th
";

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprint!("setup-root: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match setup_root::run(&options) {
        Ok(Some(report)) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Options, String> {
    let mut sysroot = PathBuf::from("/sysroot");
    let mut run = PathBuf::from("/run");
    let mut cmdline = None;
    let mut arguments = arguments;
    while let Some(option) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{} needs a value", option.display()))?;
        match option.to_str() {
            Some("--sysroot") => sysroot = value.into(),
            Some("--run") => run = value.into(),
            Some("--stop-after") => durable::stop_after(
                (value.to_str())
                    .and_then(|value| value.parse().ok())
                    .ok_or("--stop-after needs a number")?,
            ),
            Some("--cmdline") => cmdline = Some(value.to_string_lossy().into_owned()),
            _ => return Err(format!("{} is no option", option.display())),
        }
    }
    let cmdline = match cmdline {
        Some(cmdline) => cmdline,
        None => std::fs::read("/proc/cmdline")
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|e| format!("cannot read /proc/cmdline: {e}"))?,
    };
    Ok(Options {
        sysroot,
        run,
        cmdline,
    })
}

/// The message goes to the kernel's log too: a console that shows nothing else
/// before the reboot shows that.
fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("hull: cannot set up the root: {error}");
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one message; `<3>` is the level of errors.
        let message = format!("<3>hull: cannot set up the root: {error}\n");
        log.write_all(message.as_bytes()).ok();
    }
    ExitCode::FAILURE
}
