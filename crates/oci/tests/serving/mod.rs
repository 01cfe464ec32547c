//! Servers that run beside a test, on a port of loopback that nobody else has.

use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

/// Starts a server on a port that is free, and waits until it listens; nothing where that
/// failed on ten ports.
pub(crate) fn start(mut spawn: impl FnMut(u16) -> Child) -> Option<(Child, u16)> {
    // Between the choice of a port and the start, another process may take it.
    for _ in 0..10 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let mut process = spawn(port);
        if comes_up(&mut process, port) {
            return Some((process, port));
        }
    }
    None
}

/// Whether it serves; not where it has ended, since another process has the port.
fn comes_up(process: &mut Child, port: u16) -> bool {
    let start = Instant::now();
    while !listens(process.id(), port) {
        if process.try_wait().expect("it is a child").is_some() {
            return false;
        }
        if start.elapsed() > Duration::from_secs(60) {
            process.kill().ok();
            process.wait().ok();
            panic!("the server does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether that process listens on that port of the loopback device: another one may have
/// taken the port.
fn listens(process: u32, port: u16) -> bool {
    // Of each socket: its number, its address, the peer's, its state, and its inode as the tenth.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (address, listening) = (format!("0100007F:{port:04X}"), "0A");
    let sockets = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*address) && fields.get(3) == Some(&listening);
        is_it.then(|| format!("socket:[{}]", fields[9]))
    });
    let sockets: Vec<_> = sockets.collect();
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        sockets.iter().any(|socket| target.as_os_str() == &**socket)
    })
}
