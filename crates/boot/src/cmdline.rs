//! The kernel command line: its syntax, and the arguments that are hull's.

use std::fmt;

use hull_erofs::fsverity::ObjectId;

use crate::record::{DeploymentName, InvalidDeploymentName};

const DIGEST_KEY: &str = "composefs.digest";
const BARE_KEY: &str = "composefs";
const DEPLOYMENT_KEY: &str = "hull.deployment";
const VOLATILE_KEY: &str = "systemd.volatile";

/// EROFS format, hash and block size, in upstream's notation.
const DIGEST_FORM: &str = "v1-sha512-12";

/// The argument that names the image to boot, in the form that hull writes.
pub fn composefs_argument(image: &ObjectId, verity_required: bool) -> String {
    let optional = if verity_required { "" } else { "?" };
    format!("{DIGEST_KEY}={optional}{DIGEST_FORM}:{image}")
}

/// The argument that names the deployment to boot.
pub fn deployment_argument(name: &DeploymentName) -> String {
    format!("{DEPLOYMENT_KEY}={name}")
}

/// One argument: a key, and a value where there is an equals sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a> {
    /// What is before the first equals sign.
    pub key: &'a str,
    /// What is after it, without the quotes around it.
    pub value: Option<&'a str>,
}

/// Splits a command line as the kernel does (`lib/cmdline.c`, `next_arg`).
///
/// White space within double quotes separates nothing; quotes around the
/// whole argument or around its value are dropped, others are kept; there is
/// no escape character.
pub fn arguments(line: &str) -> impl Iterator<Item = Argument<'_>> {
    words(line).map(|word| {
        let (word, whole_is_quoted) = match word.strip_prefix('"') {
            Some(rest) => (rest.strip_suffix('"').unwrap_or(rest), true),
            None => (word, false),
        };
        match word.split_once('=') {
            None => Argument {
                key: word,
                value: None,
            },
            Some((key, value)) => Argument {
                key,
                value: Some(if whole_is_quoted {
                    value
                } else {
                    unquoted(value)
                }),
            },
        }
    })
}

/// The arguments as they stand, with their quotes.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    line.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && (c.is_ascii_whitespace() || c == '\x0b')
    })
    .filter(|word| !word.is_empty())
}

fn unquoted(value: &str) -> &str {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
        None => value,
    }
}

/// An image that the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRequest {
    /// The name of the image in the store.
    pub image: ObjectId,
    /// Whether a file whose fs-verity digest can't be checked is an error.
    pub verity_required: bool,
}

/// What systemd will put in place of `/var` or of all of `/`
/// (`systemd.volatile=`, systemd-fstab-generator(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volatile {
    /// Nothing.
    #[default]
    No,
    /// A file system in memory at `/var`.
    State,
    /// A file system in memory over `/`.
    Overlay,
    /// Memory for all but `/usr`.
    Yes,
}

/// What the command line asks of setup-root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRequest {
    /// The images, in order of preference: the first that exists is booted. Never empty.
    pub images: Vec<ImageRequest>,
    /// The deployment whose `/etc` and `/var` are used.
    pub deployment: Option<DeploymentName>,
    /// `systemd.volatile=`.
    pub volatile: Volatile,
    /// Arguments that name an image in a form that hull can't boot.
    pub passed_over: Vec<String>,
}

/// Why a command line can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// There are arguments that name images, and hull can boot none of them.
    #[error(
        "the kernel command line names no image that hull can boot, only {0}: \
         composefs.digest={DIGEST_FORM}:<128 hexadecimal digits> is expected"
    )]
    NoUsableImage(List),
    /// `hull.deployment=` is damaged.
    #[error("the kernel argument hull.deployment= is wrong: {0}")]
    Deployment(#[from] InvalidDeploymentName),
}

/// Arguments, for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(Vec<String>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl BootRequest {
    /// Finds hull's arguments on a kernel command line.
    ///
    /// Without any argument that names an image there is nothing to do:
    /// `None`. Those of the form `composefs.digest=` go before `composefs=`,
    /// as upstream has it.
    pub fn parse(line: &str) -> Result<Option<Self>, CmdlineError> {
        let mut digests = Vec::new();
        let mut bare = Vec::new();
        let mut passed_over = Vec::new();
        let mut deployment = None;
        let mut volatile = Volatile::No;
        for Argument { key, value } in arguments(line) {
            let value = value.unwrap_or_default();
            match key {
                DIGEST_KEY | BARE_KEY => match parse_image(key, value) {
                    Some(request) if key == DIGEST_KEY => digests.push(request),
                    Some(request) => bare.push(request),
                    None => passed_over.push(format!("{key}={value}")),
                },
                DEPLOYMENT_KEY => deployment = Some(value.parse()?),
                VOLATILE_KEY => volatile = parse_volatile(value),
                _ => {}
            }
        }
        digests.append(&mut bare);
        match (digests.is_empty(), passed_over.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => Err(CmdlineError::NoUsableImage(List(passed_over))),
            (false, _) => Ok(Some(Self {
                images: digests,
                deployment,
                volatile,
                passed_over,
            })),
        }
    }
}

fn parse_image(key: &str, value: &str) -> Option<ImageRequest> {
    let (value, verity_required) = match value.strip_prefix('?') {
        Some(rest) => (rest, false),
        None => (value, true),
    };
    let digits = if key == DIGEST_KEY {
        value.strip_prefix(DIGEST_FORM)?.strip_prefix(':')?
    } else {
        value
    };
    Some(ImageRequest {
        image: digits.parse().ok()?,
        verity_required,
    })
}

fn parse_volatile(value: &str) -> Volatile {
    match value {
        "state" => Volatile::State,
        "overlay" => Volatile::Overlay,
        "" | "1" | "yes" | "y" | "true" | "t" | "on" => Volatile::Yes,
        _ => Volatile::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; ObjectId::LEN])
    }

    fn request(byte: u8, verity_required: bool) -> ImageRequest {
        ImageRequest {
            image: image(byte),
            verity_required,
        }
    }

    fn parsed(line: &str) -> BootRequest {
        BootRequest::parse(line).unwrap().unwrap()
    }

    #[test]
    fn what_hull_writes_is_read_back() {
        let name = DeploymentName {
            digest: image(1),
            generation: 3,
        };
        let line = format!(
            "root=UUID=1-2 rw {} {}",
            composefs_argument(&image(1), true),
            deployment_argument(&name)
        );
        let request = parsed(&line);
        assert_eq!(request.images, [self::request(1, true)]);
        assert_eq!(request.deployment, Some(name));
        let optional = parsed(&composefs_argument(&image(1), false));
        assert_eq!(optional.images, [self::request(1, false)]);
    }

    #[test]
    fn a_line_without_an_image_asks_for_nothing() {
        for line in [
            "",
            "\n",
            "root=/dev/sda1 quiet",
            "composefs.other=1 xcomposefs=2",
        ] {
            assert_eq!(BootRequest::parse(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn upstream_s_bare_form_is_read_and_comes_last() {
        let line = format!(
            "composefs=?{} composefs.digest=v1-sha512-12:{}",
            image(2),
            image(1)
        );
        let request = parsed(&line);
        assert_eq!(
            request.images,
            [self::request(1, true), self::request(2, false)]
        );
    }

    #[test]
    fn forms_that_hull_cannot_boot_are_passed_over_beside_one_that_it_can() {
        let other = format!("composefs.digest=v1-sha256-12:{}", "a".repeat(64));
        let line = format!("{other} {}", composefs_argument(&image(1), true));
        assert_eq!(parsed(&line).passed_over, [other]);
    }

    #[test]
    fn forms_that_hull_cannot_boot_are_named_when_there_is_no_other() {
        for argument in [
            format!("composefs.digest=v1-sha256-12:{}", "a".repeat(64)),
            format!("composefs.digest=v2-sha512-12:{}", "a".repeat(128)),
            format!("composefs={}", "a".repeat(64)),
            "composefs.digest=".to_owned(),
            "composefs=../../etc".to_owned(),
        ] {
            let error = BootRequest::parse(&argument).unwrap_err();
            assert!(error.to_string().contains(&argument), "{error}");
        }
    }

    #[test]
    fn a_damaged_deployment_argument_is_an_error() {
        let line = format!("{} hull.deployment=x", composefs_argument(&image(1), true));
        let error = BootRequest::parse(&line).unwrap_err();
        assert!(error.to_string().contains("hull.deployment="), "{error}");
    }

    #[test]
    fn volatile_modes_are_systemd_s() {
        let base = composefs_argument(&image(1), true);
        for (argument, volatile) in [
            ("", Volatile::No),
            ("systemd.volatile", Volatile::Yes),
            ("systemd.volatile=yes", Volatile::Yes),
            ("systemd.volatile=no", Volatile::No),
            ("systemd.volatile=state", Volatile::State),
            ("systemd.volatile=overlay", Volatile::Overlay),
        ] {
            let request = parsed(&format!("{base} {argument}"));
            assert_eq!(request.volatile, volatile, "{argument}");
        }
    }

    #[test]
    fn quotes_are_the_kernel_s() {
        let line = "a b=c  d=\"e f\" \"g=h i\" \"j\" k=\"l";
        let split: Vec<_> = arguments(line).map(|a| (a.key, a.value)).collect();
        let expected = [
            ("a", None),
            ("b", Some("c")),
            ("d", Some("e f")),
            ("g", Some("h i")),
            ("j", None),
            ("k", Some("l")),
        ];
        assert_eq!(split, expected);
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in "[ a-z=\"?.:\\n-]{0,200}") {
            BootRequest::parse(&line).ok();
            prop_assert!(words(&line).all(|word| !word.is_empty()));
        }
    }
}
