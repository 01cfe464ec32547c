//! Pulls an image with the `composefs-oci` crate, for `tools/bench`: `peer STORE IMAGE`.
//!
//! IMAGE is as skopeo writes it: `oci:DIR:TAG`, which the crate reads itself, or
//! `docker://HOST/NAME:TAG`, which it reads through skopeo. The store is made
//! where there is none, without fs-verity, as the kernel of the measurements has none.

use std::path::Path;
use std::sync::Arc;

use composefs::fsverity::{Algorithm, Sha512HashValue};
use composefs::repository::{Repository, RepositoryConfig};
use composefs_oci::PullOptions;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, image] = arguments.as_slice() else {
        panic!("usage: peer STORE IMAGE");
    };
    let config = RepositoryConfig::new(Algorithm::Sha512 { lg_blocksize: 12 }).set_insecure();
    let store = Path::new(store);
    let repository: Repository<Sha512HashValue> = if store.join("meta.json").exists() {
        Repository::open_path(rustix::fs::CWD, store).unwrap()
    } else {
        Repository::init_path(rustix::fs::CWD, store, config)
            .unwrap()
            .0
    };
    let repository = Arc::new(repository);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let name = image.rsplit(':').next();
    let pull = composefs_oci::pull(&repository, image, name, PullOptions::default());
    runtime.block_on(pull).unwrap();
}
