//! The environment variables that hull reads; it reads them here only.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use hull_oci::source::Proxies;

/// How podman's library tells its programs for whom they work in a user namespace.
pub(crate) const ROOTLESS_USER: &str = "_CONTAINERS_ROOTLESS_UID";

/// What the environment asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `HULL_STOP_AFTER`: the process is cut after that many durable steps (for tests).
    pub(crate) stop_after: Option<u32>,
    /// Standard output takes colours.
    pub(crate) colour_out: bool,
    /// Standard error takes colours.
    pub(crate) colour_err: bool,
    /// Standard output is a terminal.
    pub(crate) terminal_out: bool,
    /// Standard error is a terminal that can move its cursor.
    pub(crate) terminal_err: bool,
    /// `REGISTRY_AUTH_FILE`, as for podman: where the passwords of registries are.
    pub(crate) registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`: `podman login` writes there.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// `CONTAINERS_STORAGE_CONF`, as for podman: where its images are.
    pub(crate) storage_conf: Option<PathBuf>,
    /// `_CONTAINERS_ROOTLESS_UID`, which `podman unshare` sets: the user that hull works for, as
    /// root of a user namespace.
    pub(crate) rootless: Option<u32>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`, as for podman.
    pub(crate) registries_conf: Option<PathBuf>,
    /// `SOURCE_DATE_EPOCH`, as for all programs whose output should be the same again.
    pub(crate) source_date_epoch: Option<OsString>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case.
    pub(crate) proxies: Proxies,
}

/// Reads the environment of the process.
pub(crate) fn read() -> Environment {
    let terminal_out = std::io::stdout().is_terminal();
    let terminal_err = std::io::stderr().is_terminal();
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    // https://no-color.org: set, and not empty
    let colour = !dumb && variable("NO_COLOR").is_none_or(|value| value.is_empty());
    let stop_after = variable("HULL_STOP_AFTER");
    Environment {
        stop_after: stop_after.and_then(|steps| steps.to_str()?.parse().ok()),
        colour_out: terminal_out && colour,
        colour_err: terminal_err && colour,
        terminal_out,
        terminal_err: terminal_err && !dumb,
        registry_auth_file: path("REGISTRY_AUTH_FILE"),
        runtime_dir: path("XDG_RUNTIME_DIR"),
        storage_conf: path("CONTAINERS_STORAGE_CONF"),
        rootless: rootless(),
        home: path("HOME"),
        registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
        source_date_epoch: variable("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()),
        proxies: Proxies::new(
            text("HTTP_PROXY", "http_proxy"),
            text("HTTPS_PROXY", "https_proxy"),
            text("ALL_PROXY", "all_proxy"),
            text("NO_PROXY", "no_proxy").as_deref(),
        ),
    }
}

/// Believed of who is root in a user namespace alone: anybody else works for who it is.
fn rootless() -> Option<u32> {
    let user = variable(ROOTLESS_USER)?.to_str()?.parse().ok()?;
    let is_root = rustix::process::geteuid().is_root();
    (is_root && hull_sys::user_namespace::is_inside()).then_some(user)
}

/// The first of two names that is set and not empty.
fn text(upper: &str, lower: &str) -> Option<String> {
    [upper, lower]
        .into_iter()
        .filter_map(|name| variable(name)?.into_string().ok())
        .find(|value| !value.is_empty())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn path(name: &str) -> Option<PathBuf> {
    variable(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
