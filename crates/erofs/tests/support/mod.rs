//! Trees for tests, written as dump files because those show what is in them.

use hull_erofs::Tree;
use hull_erofs::dump;

/// A tree with every type of inode and most corners of the format.
#[allow(dead_code, reason = "not every test file needs it")]
pub(crate) fn sample() -> Tree {
    let object = "ab".repeat(64);
    let path = format!("ab/{}", "ab".repeat(63));
    let long_link = "t".repeat(4090);
    let text = format!(
        "\
/ 0 40755 5 0 0 0 1700000000.0 - - - security.selinux=system_u:object_r:root_t:s0
/00 5 100644 1 0 0 0 1700000000.0 - hello -
/dev 0 40755 2 0 0 0 1700000000.0 - - -
/dev/null 0 20666 1 0 0 259 1700000000.0 - - -
/dev/pipe 0 10600 1 0 0 0 1700000000.0 - - -
/dev/sda 0 60660 1 0 6 2048 1700000000.0 - - -
/dev/socket 0 140755 1 0 0 0 1700000000.0 - - -
/dev/wh 0 20000 1 0 0 0 1700000000.0 - - -
/link {len} 120777 1 0 0 0 1700000000.0 {long_link} - -
/short 3 120777 1 0 0 0 1700000000.7 usr - -
/usr 0 40755 2 70000 0 0 1700000001.123456789 - - - user.a=b
/usr/a 100000 100755 2 0 0 0 1700000000.0 {path} - {object} security.capability=\\x01\\x00 user.a=b
/usr/b 0 @120000 - - - - 0.0 /usr/a - -
/usr/empty 0 100644 1 0 0 0 1700000000.0 - - - system.posix_acl_access=\\x02 trusted.overlay.opaque=y
",
        len = long_link.len(),
    );
    dump::parse(text.as_bytes()).expect("the sample is a dump file")
}

/// The dump file of a tree as text.
#[allow(dead_code, reason = "not every test file compares trees")]
pub(crate) fn show(tree: &Tree) -> String {
    String::from_utf8(dump::write(tree)).expect("a dump file is ASCII")
}
