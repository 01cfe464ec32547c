//! A machine: QEMU with firmware, a disk, a network and a serial console.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Daemon, Output, POLL, Program};
use crate::ssh::Connection;
use crate::{Key, VmError, Workplace, serial};

/// How long a boot may take, from power or a reboot's order to a login by ssh.
///
/// The full Debian image needs a minute on an idle machine of two processors;
/// two machines beside a compiler need several.
pub const BOOT_DEADLINE: Duration = Duration::from_secs(400);

/// How long a command in a machine may take, unless the caller knows better.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(300);

/// How long an orderly end may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(150);

/// How long one look at the ssh port may take. QEMU accepts connections for a
/// machine that has no network yet, so only the server's greeting counts.
const GREETING: Duration = Duration::from_secs(5);

/// UEFI firmware without Secure Boot, as Debian's `ovmf` installs it.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Options {
    disk: PathBuf,
    key: Key,
    memory_mib: u32,
    processors: u32,
}

impl Options {
    /// A machine with 2 GiB and two processors, which boots the raw `disk` and lets `key` in.
    #[must_use]
    pub fn new(disk: impl Into<PathBuf>, key: &Key) -> Self {
        Options {
            disk: disk.into(),
            key: key.clone(),
            memory_mib: 2048,
            processors: 2,
        }
    }

    /// Sets the memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, size: u32) -> Self {
        self.memory_mib = size;
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }
}

/// A machine, on or off.
///
/// Its host is 10.0.2.2 inside. The disk, the firmware's variables and the
/// console's log belong to it through any number of boots; dropping it pulls
/// the plug.
#[derive(Debug)]
pub struct Machine {
    name: String,
    options: Options,
    variables: PathBuf,
    console: PathBuf,
    log: PathBuf,
    port: u16,
    power: Option<Daemon>,
    connection: Connection,
}

impl Machine {
    /// Switches a new machine on; `name` tells it from the test's other ones.
    ///
    /// Returns at once: [`Machine::wait_for_ssh`] waits for the boot.
    pub fn start(place: &Workplace, name: &str, options: Options) -> Result<Self, VmError> {
        let directory = place.subdirectory(name)?;
        let variables = directory.join("variables.fd");
        fs::copy(FIRMWARE_VARIABLES, &variables).map_err(|source| VmError::File {
            action: "copy (tools/setup installs it)",
            path: FIRMWARE_VARIABLES.into(),
            source,
        })?;
        let port = free_port()?;
        let connection = Connection::new(&options.key, port)?;
        let mut machine = Machine {
            name: name.to_owned(),
            options,
            variables,
            console: directory.join("console.log"),
            log: directory.join("qemu.log"),
            port,
            power: None,
            connection,
        };
        machine.power_on()?;
        Ok(machine)
    }

    /// Switches the machine on again, after [`Machine::kill_power`] or [`Machine::shut_down`].
    pub fn power_on(&mut self) -> Result<(), VmError> {
        if self.power.is_none() {
            self.power = Some(self.qemu().daemon(&self.log)?);
        }
        Ok(())
    }

    fn qemu(&self) -> Program {
        let drive = |options: &str, path: &Path| {
            // A comma in a path is doubled: QEMU's own escape.
            let path = path.display().to_string().replace(',', ",,");
            format!("format=raw,{options},file={path}")
        };
        Program::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // Without a keyboard's controller: now and then Linux waits for ever for an emulated one.
            .args(["-machine", "q35,i8042=off", "-accel", "tcg,thread=multi"])
            .args(["-cpu", "qemu64"])
            .args(["-smp", &self.options.processors.to_string()])
            .args(["-m", &self.options.memory_mib.to_string()])
            .arg("-drive")
            .arg(drive("if=pflash,unit=0,readonly=on", Path::new(FIRMWARE)))
            .arg("-drive")
            .arg(drive("if=pflash,unit=1", &self.variables))
            .arg("-drive")
            .arg(drive(
                "if=none,id=disk,cache=unsafe,discard=unmap",
                &self.options.disk,
            ))
            .args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"])
            .arg("-netdev")
            .arg(format!(
                "user,id=net,hostfwd=tcp:127.0.0.1:{}-:22",
                self.port
            ))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci"])
            .arg("-chardev")
            .arg(format!(
                "file,id=console,append=on,path={}",
                self.console.display().to_string().replace(',', ",,")
            ))
            .args(["-serial", "chardev:console"])
    }

    /// The command that boots the disk by hand, with its console on the terminal.
    #[must_use]
    pub fn command_by_hand(&self) -> String {
        format!(
            "qemu-system-x86_64 -machine q35,i8042=off -smp 2 -m 2048 -nographic -drive if=pflash,format=raw,readonly=on,file={FIRMWARE} \
             -drive if=pflash,format=raw,file={} -drive if=virtio,format=raw,file={} -nic user,model=virtio,hostfwd=tcp:127.0.0.1:2222-:22",
            self.variables.display(),
            self.options.disk.display()
        )
    }

    /// Waits until root can log in; returns how long that took.
    pub fn wait_for_ssh(&mut self) -> Result<Duration, VmError> {
        self.wait_for_boot(None, 1)
    }

    /// Waits until root can log in to another boot than `old` (see [`Machine::boot_id`]).
    ///
    /// For reboots that the machine's own work ordered.
    pub fn wait_for_reboot(&mut self, old: &str) -> Result<Duration, VmError> {
        self.wait_for_boot(Some(old), 1)
    }

    /// Reboots, and waits for a login through so many boots that fail before one is good.
    pub fn reboot_through(&mut self, failing: u32) -> Result<Duration, VmError> {
        let old = self.boot_id()?;
        self.order("systemctl --no-block reboot");
        self.wait_for_boot(Some(&old), failing + 1)
    }

    fn wait_for_boot(&mut self, unlike: Option<&str>, boots: u32) -> Result<Duration, VmError> {
        let (start, deadline) = (Instant::now(), BOOT_DEADLINE * boots);
        while start.elapsed() < deadline {
            self.expect_power("it was to boot")?;
            if self.greets() && self.connection.open()? {
                match (unlike, self.boot_id()) {
                    (None, _) => return Ok(start.elapsed()),
                    (Some(old), Ok(new)) if new != old => return Ok(start.elapsed()),
                    _ => self.connection.close(),
                }
            }
            thread::sleep(POLL * 3);
        }
        Err(self.problem(&format!("no login by ssh within {deadline:?}")))
    }

    fn greets(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, GREETING) else {
            return false;
        };
        let mut greeting = [0; 4];
        stream.set_read_timeout(Some(GREETING)).is_ok()
            && stream.read_exact(&mut greeting).is_ok()
            && &greeting == b"SSH-"
    }

    /// Runs `script` in root's shell, for up to [`COMMAND_DEADLINE`].
    ///
    /// A script that fails is an [`Output`], not an error.
    pub fn run(&self, script: &str) -> Result<Output, VmError> {
        self.run_within(script, COMMAND_DEADLINE)
    }

    /// Runs `script` in root's shell with a deadline of its own.
    pub fn run_within(&self, script: &str, deadline: Duration) -> Result<Output, VmError> {
        self.connection.run(script, deadline)
    }

    /// Runs `script` in root's shell, wants it to succeed, and returns what it printed on standard output.
    pub fn succeed(&self, script: &str) -> Result<String, VmError> {
        let output = self.run(script)?;
        if output.success() {
            Ok(output.stdout)
        } else {
            Err(self.problem(&format!("`{script}` failed with {output}")))
        }
    }

    /// Starts `script` in root's shell and does not wait for it; what it prints goes to `log` of the host.
    ///
    /// For work that is going to be cut off. Dropping the value ends the
    /// connection, and with it the script unless it has detached itself.
    pub fn start_script(&self, script: &str, log: &Path) -> Result<Daemon, VmError> {
        self.connection.start(script, log)
    }

    /// Copies a file of the host into the machine.
    pub fn put(&self, local: &Path, remote: &str) -> Result<(), VmError> {
        let file = File::open(local).map_err(|source| VmError::File {
            action: "open",
            path: local.to_owned(),
            source,
        })?;
        let script = format!("cat >'{remote}'");
        let output = self.connection.send(&script, file, COMMAND_DEADLINE)?;
        if output.success() {
            Ok(())
        } else {
            Err(self.problem(&format!("cannot write {remote}: {output}")))
        }
    }

    /// What tells this boot from all others.
    pub fn boot_id(&self) -> Result<String, VmError> {
        let id = self.succeed("cat /proc/sys/kernel/random/boot_id")?;
        Ok(id.trim().to_owned())
    }

    /// Reboots in an orderly way and waits for a login; returns how long it all took.
    pub fn reboot(&mut self) -> Result<Duration, VmError> {
        let old = self.boot_id()?;
        // The connection may break before the answer comes: what counts is the next boot.
        self.order("systemctl --no-block reboot");
        self.wait_for_reboot(&old)
    }

    /// Shuts down in an orderly way and waits until the power is off.
    pub fn shut_down(&mut self) -> Result<(), VmError> {
        self.order("systemctl --no-block poweroff");
        let Some(power) = self.power.as_mut() else {
            return Ok(());
        };
        if !power.wait(SHUTDOWN_DEADLINE) {
            return Err(self.problem(&format!("still on {SHUTDOWN_DEADLINE:?} after poweroff")));
        }
        self.power = None;
        Ok(())
    }

    fn order(&mut self, script: &str) {
        // A lost answer is no failure, and a lost order shows in the wait that follows.
        self.connection.run(script, Duration::from_secs(60)).ok();
        self.connection.close();
    }

    /// Pulls the plug: QEMU is killed, and what the guest had not written is lost.
    pub fn kill_power(&mut self) -> Result<(), VmError> {
        self.expect_power("its power was to be cut")?;
        self.power = None;
        self.connection.close();
        Ok(())
    }

    /// Waits until the console has shown `text`, in this boot or an earlier one.
    pub fn wait_for_console(&mut self, text: &str, deadline: Duration) -> Result<(), VmError> {
        let start = Instant::now();
        while start.elapsed() < deadline {
            if self.console().contains(text) {
                return Ok(());
            }
            self.expect_power("something was to appear on its console")?;
            thread::sleep(POLL);
        }
        Err(self.problem(&format!("no {text:?} on its console within {deadline:?}")))
    }

    /// All that the console has shown, through all boots.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        serial::readable(&String::from_utf8_lossy(&bytes))
    }

    /// The raw disk that it boots.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.options.disk
    }

    fn expect_power(&mut self, wanted: &str) -> Result<(), VmError> {
        let ended = match &mut self.power {
            None => Some("it is switched off".to_owned()),
            Some(power) => power
                .ended()
                .map(|status| format!("QEMU ended ({status}): {}", power.printed())),
        };
        match ended {
            None => Ok(()),
            Some(why) => Err(self.problem(&format!("{wanted}, but {why}"))),
        }
    }

    fn problem(&self, problem: &str) -> VmError {
        VmError::Machine {
            machine: self.name.clone(),
            problem: problem.to_owned(),
            log: self.console.clone(),
            tail: serial::tail(&self.console),
        }
    }
}

/// Below what the kernel gives to connections, where one that is free now may be
/// anybody's when a machine is switched on again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// A port of the loopback interface that nobody listens on, another one each time.
fn free_port() -> Result<u16, VmError> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let mut reason = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in PORTS {
        let place = process::id().wrapping_mul(16) % 10_000 + LAST.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + place % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => reason = error,
        }
    }
    Err(VmError::Start {
        program: "a listener on the loopback interface".into(),
        source: reason,
    })
}
