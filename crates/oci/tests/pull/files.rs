//! Layouts and archives that are damaged or hostile.

use std::fs::File;
use std::io::Write;

use crate::image::three_layers;
use crate::local_store::{LocalStore, show};

#[test]
fn a_damaged_layout_is_refused_and_the_next_try_works() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(temp.path(), "test");
    let name = format!("oci:{}:test", temp.path().display());
    let local = LocalStore::new();
    let path = temp
        .path()
        .join(format!("blobs/sha256/{}", image.layers[2].to_hex()));
    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    changed[1_000_000] ^= 1;
    for content in [&changed[..], &whole[..1000], b""] {
        File::create(&path).unwrap().write_all(content).unwrap();
        let error = show(&local.pull(&name).unwrap_err());
        assert!(error.contains(&image.layers[2].to_string()), "{error}");
        local.assert_lacks(&image.digest());
    }
    std::fs::remove_file(&path).unwrap();
    let error = show(&local.pull(&name).unwrap_err());
    assert!(error.contains("is missing"), "{error}");
    File::create(&path).unwrap().write_all(&whole).unwrap();
    local.pull(&name).unwrap();
}

#[test]
fn a_blob_that_is_a_link_out_of_the_layout_is_not_followed() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    let layout = temp.path().join("layout");
    image.write_layout(&layout, "test");
    let path = layout.join(format!("blobs/sha256/{}", image.layers[0].to_hex()));
    std::fs::copy(&path, temp.path().join("outside")).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(temp.path().join("outside"), &path).unwrap();
    let local = LocalStore::new();
    let error = local
        .pull(&format!("oci:{}:test", layout.display()))
        .unwrap_err();
    assert!(
        show(&error).contains(&image.layers[0].to_hex()),
        "{}",
        show(&error)
    );
    local.assert_lacks(&image.digest());
}

#[test]
fn a_directory_or_file_that_is_not_there_is_named() {
    let local = LocalStore::new();
    for reference in [
        "oci:/nonexistent/layout:x",
        "oci-archive:/nonexistent/file.tar",
    ] {
        let error = show(&local.pull(reference).unwrap_err());
        assert!(error.contains("/nonexistent/"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }
}
