//! x
use crate::{Store, StoreError};
use hull_erofs::ObjectId;
pub(crate) fn content_digest(store: &Store, id: &ObjectId) -> Result<ObjectId, StoreError> {
    let _ = (store, id);
    Ok(*id)
}
