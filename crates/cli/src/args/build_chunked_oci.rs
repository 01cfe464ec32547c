//! `build-chunked-oci`: the name and the options that Containerfiles have for rpm-ostree.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::chunk::{Chunk, CompressionFormat, Rules};
use super::{Auth, Transport};

/// Do as `chunk`, with the options of rpm-ostree
///
/// Does what `hull chunk` does, which has more options. What comes out is an
/// image of plain layers, no ostree commit: hull boots it, and bootc with its
/// composefs backend.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, in a Containerfile:
    RUN --mount=type=bind,rw=true,src=.,dst=/buildcontext,bind-propagation=shared \\
        --mount=from=rootfs,dst=/rootfs \\
        hull build-chunked-oci --bootc --rootfs /rootfs --output oci:/buildcontext/out.oci
    FROM oci:out.oci")]
pub(crate) struct BuildChunkedOci {
    /// The root file system
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) rootfs: Option<PathBuf>,

    /// An image to split anew, by its name in podman's storage or as hull names images
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,

    /// The image is an operating system
    #[arg(long)]
    pub(crate) bootc: bool,

    /// Where the image goes, such as containers-storage:NAME or oci:DIR
    ///
    /// Where it has an image that was split before, that one's layers keep their
    /// components.
    #[arg(long, short, value_name = "IMAGE")]
    pub(crate) output: String,

    /// An earlier image, in place of the one at --output
    #[arg(long, value_name = "IMAGE")]
    pub(crate) previous_build: Option<String>,

    /// 1 or 2; each layer has the directories above its files in both
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) format_version: u8,

    /// The most layers
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) max_layers: NonZeroUsize,

    /// Set a label
    #[arg(long, short, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) label: Vec<String>,

    /// The tag of the image in an OCI layout that --output names without one
    #[arg(long, value_name = "TAG", default_value = "latest")]
    pub(crate) reference: String,

    /// How layers are compressed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "gzip")]
    pub(crate) compression: CompressionFormat,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

impl BuildChunkedOci {
    /// The same for `hull chunk`.
    pub(crate) fn to_chunk(&self) -> Chunk {
        let from = self
            .from
            .as_deref()
            .map(|name| Transport::ContainersStorage.reference(name));
        Chunk {
            rootfs: self.rootfs.clone(),
            from,
            output: Some(self.tagged_output()),
            previous: self.previous_build.clone(),
            max_layers: self.max_layers,
            bootc: self.bootc,
            label: self.label.clone(),
            compression: self.compression,
            auth: self.auth.clone(),
            rules: Rules::default(),
            history: Vec::new(),
            keep_to_output: true,
            action: None,
            plan: None,
            plan_out: None,
            html: None,
            check: false,
            config: None,
            platform: None,
            compression_level: None,
            threads: None,
            source_date_epoch: None,
        }
    }

    fn tagged_output(&self) -> String {
        match self.output.strip_prefix("oci:") {
            Some(path) if !path.contains(':') => format!("{}:{}", self.output, self.reference),
            _ => self.output.clone(),
        }
    }
}
