//! No target at all: for work that a repository alone needs.

use crate::contract::{Data, Engine, Hold, Lock, no_target};
use crate::error::Result;

/// Stands where a target would be. It holds nothing and refuses whatever would need one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTarget;

impl Engine for NoTarget {
    fn data(&self) -> Data<'_> {
        Data::None
    }

    fn identify(&self, _new_id: &str) -> Result<String> {
        Err(no_target())
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        Ok(Vec::new())
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        Ok(Vec::new())
    }

    fn drop_kept(&self, _operation: &str) -> Result<()> {
        Err(no_target())
    }

    fn is_frozen(&self, _operation: &str) -> Result<bool> {
        Ok(false)
    }

    fn thaw(&self, _operation: &str) -> Result<()> {
        Err(no_target())
    }

    fn make_live(&self, _operation: &str) -> Result<()> {
        Err(no_target())
    }

    fn drop_staged(&self, _operation: &str) -> Result<()> {
        Err(no_target())
    }
}
