//! Whether a store keeps the conditions of writes.
//!
//! Some take a conditional write and ignore its condition. On such a store one process undoes unnoticed
//! what another did, so that nothing is removed there. It is found out where it would matter first: by whom
//! takes the lease, on `lease.json`, where a write that should be refused does no harm.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::error::Result;
use crate::layout;
use crate::objects::{Created, StoreKind};
use crate::replace::Seen;
use crate::repository::Repository;

impl Repository {
    /// Finds out, once, whether the store keeps conditions, with two writes of `lease.json` that it must
    /// refuse: of what is there, unless nothing is, and of another text in the place of what was there
    /// before.
    ///
    /// # Errors
    /// [`crate::Error::NoConditions`] when it takes one of them; or it fails.
    pub(crate) async fn check_conditions(
        &self,
        before: &Seen,
        there: &Seen,
        another: Bytes,
    ) -> Result<()> {
        let objects = &self.objects;
        if matches!(objects.place, StoreKind::Directory(_))
            || self.keeps_conditions.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let created = objects.create(layout::LEASE, there.bytes.clone()).await?;
        if created == Created::Yes {
            let detail = "its store writes over an object that is only to be created";
            return Err(objects.no_conditions(detail));
        }
        if (objects.replace(layout::LEASE, before, another).await?).is_some() {
            let detail = "its store replaces an object that has changed meanwhile";
            return Err(objects.no_conditions(detail));
        }
        self.keeps_conditions.store(true, Ordering::Relaxed);
        Ok(())
    }
}
