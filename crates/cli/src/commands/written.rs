//! What is said of an image that was written somewhere.

use hull_oci::Reference;
use hull_oci::push::Copied;

use crate::failure::Failure;
use crate::output;
use crate::render::quantity;

/// Says what was sent, and what people should know about it.
pub(crate) fn tell(copied: &Copied, target: &Reference) -> Result<(), Failure> {
    for remark in &copied.remarks {
        output::note(&format!("note: {remark}"));
    }
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let what = match &copied.digest {
        Some(digest) => format!("as {digest}"),
        None => "which keeps no digest".to_owned(),
    };
    if let Reference::Storage(_) = target {
        // How many layers it had already is not known.
        return output::print(&format!("Written to {target}, {what}.\n"));
    }
    let said = format!(
        "Written to {target}, {what}: {} ({}) sent, {} there already.\n",
        quantity::count(number(copied.sent_blobs), "blob", "blobs"),
        quantity::bytes(copied.sent_bytes),
        copied.present_blobs,
    );
    print(&said, target)
}

/// Prints a result, beside the image where that goes to standard output.
pub(crate) fn print(text: &str, target: &Reference) -> Result<(), Failure> {
    let is_stdout = match target {
        Reference::Archive(file) | Reference::DockerArchive(file) => file.is_stdout(),
        _ => false,
    };
    if !is_stdout {
        return output::print(text);
    }
    output::note(text.trim_end());
    Ok(())
}
