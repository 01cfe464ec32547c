//! What becomes of a tree before it boots. That it is what upstream does is tested
//! beside upstream's code, in tests/oracle.

mod support;

use hull_erofs::transform::{TransformError, oci_root, prepare_for_boot};
use hull_erofs::{Tree, dump};
use support::show;

const IMAGE: &str = "\
/ 0 40700 6 5 5 0 1.1 - - - user.root=x
/boot 0 40755 3 0 0 0 2.2 - - - security.selinux=boot_t
/boot/grub 0 40755 2 0 0 0 2.0 - - -
/boot/grub/cfg 1 100644 2 0 0 0 2.0 - a -
/run 0 40755 2 0 0 0 3.3 - - - security.capability=run
/run/secret 1 100600 1 0 0 0 3.0 - b -
/sysroot 0 40755 2 0 0 0 4.4 - - -
/usr 0 40755 2 7 8 0 1700000000.5 - - - security.capability=usr user.a=b
/usr/cfg 0 @120000 - - - - 0.0 /boot/grub/cfg - -
";

fn image() -> Tree {
    dump::parse(IMAGE.as_bytes()).expect("it is a dump file")
}

fn without(path: &str) -> Tree {
    let is_elsewhere =
        |line: &&str| !line.starts_with(&format!("{path} ")) && !line.contains(&format!("{path}/"));
    let text: Vec<&str> = IMAGE.lines().filter(is_elsewhere).collect();
    dump::parse(text.join("\n").as_bytes()).expect("it is a dump file")
}

#[test]
fn the_root_becomes_what_usr_is_and_run_is_emptied() {
    let mut tree = image();
    oci_root(&mut tree).unwrap();
    assert_eq!(
        show(&tree),
        "\
/ 0 40755 6 7 8 0 1700000000.5 - - - security.capability=usr
/boot 0 40755 3 0 0 0 2.2 - - -
/boot/grub 0 40755 2 0 0 0 2.0 - - -
/boot/grub/cfg 1 100644 2 0 0 0 2.0 - a -
/run 0 40755 2 0 0 0 1700000000.5 - - - security.capability=run
/sysroot 0 40755 2 0 0 0 4.4 - - -
/usr 0 40755 2 7 8 0 1700000000.5 - - - security.capability=usr
/usr/cfg 0 @120000 - - - - 0.0 /boot/grub/cfg - -
"
    );
    assert_eq!(tree.leaves().count(), 1, "what only /run had is forgotten");
}

#[test]
fn what_boots_has_nothing_in_boot_and_sysroot() {
    let mut tree = image();
    oci_root(&mut tree).unwrap();
    prepare_for_boot(&mut tree).unwrap();
    assert_eq!(
        show(&tree),
        "\
/ 0 40755 6 7 8 0 1700000000.5 - - - security.capability=usr
/boot 0 40755 2 0 0 0 1700000000.5 - - -
/run 0 40755 2 0 0 0 1700000000.5 - - - security.capability=run
/sysroot 0 40755 2 0 0 0 1700000000.5 - - -
/usr 0 40755 2 7 8 0 1700000000.5 - - - security.capability=usr
/usr/cfg 1 100644 1 0 0 0 2.0 - a -
"
    );
}

#[test]
fn a_missing_directory_is_named_and_nothing_is_changed() {
    for (path, transform) in [
        (
            "/usr",
            oci_root as fn(&mut Tree) -> Result<(), TransformError>,
        ),
        ("/usr", prepare_for_boot),
        ("/boot", prepare_for_boot),
        ("/sysroot", prepare_for_boot),
    ] {
        let mut tree = without(path);
        let before = show(&tree);
        let error = transform(&mut tree).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        assert_eq!(show(&tree), before);
    }
}

#[test]
fn an_image_needs_no_run() {
    oci_root(&mut without("/run")).unwrap();
}

#[test]
fn a_link_in_the_place_of_a_directory_is_refused() {
    for path in ["/run", "/usr"] {
        let text = format!(
            "{}\n{path} 1 120777 1 0 0 0 0.0 x - -\n",
            show(&without(path))
        );
        let mut tree = dump::parse(text.as_bytes()).unwrap();
        assert_eq!(
            oci_root(&mut tree),
            Err(TransformError::NotADirectory { path })
        );
    }
}
