//! A cluster as an engine: the process holds nothing of it, its agents do.

use super::client::{Addresses, Agents};
use super::coordinator::{AgentTls, Coordinator};
use super::inserts::Inserts;
use super::rates::Rates;
use crate::contract::{Data, Engine, Hold, Lock};
use crate::error::Result;

/// A cluster, which its agents work on.
pub struct Cluster {
    agents: Agents,
    coordinator: Coordinator,
}

impl Cluster {
    /// A cluster whose agents take orders of a coordinator, at these addresses where they are given, else where they were
    /// when an operation began. With what stops the inserts of its users, where there is such, and
    /// how fast all of its agents together may speak with the repository.
    ///
    /// # Errors
    /// The files of TLS cannot be read, or are none.
    pub fn new(
        tls: &AgentTls,
        coordinator: Coordinator,
        addresses: Addresses,
        inserts: Option<Box<dyn Inserts>>,
        rates: Rates,
    ) -> Result<Self> {
        Ok(Self {
            agents: Agents::new(tls, &coordinator, addresses, inserts, rates)?,
            coordinator,
        })
    }
}

impl Engine for Cluster {
    fn data(&self) -> Data<'_> {
        Data::Shards(&self.agents)
    }

    fn identify(&self, _new_id: &str) -> Result<String> {
        Ok(self.coordinator.id.clone())
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        Ok(Vec::new())
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        Ok(Vec::new())
    }

    fn drop_kept(&self, _operation: &str) -> Result<()> {
        Ok(())
    }

    fn is_frozen(&self, _operation: &str) -> Result<bool> {
        Ok(false)
    }

    fn thaw(&self, _operation: &str) -> Result<()> {
        Ok(())
    }

    fn make_live(&self, _operation: &str) -> Result<()> {
        Ok(())
    }

    fn drop_staged(&self, _operation: &str) -> Result<()> {
        Ok(())
    }
}
