//! A table that has lost its place among its replicas.

use mendb_engines::{LostPlace, Result};
use mendb_model::part::TableName;

use super::FolderStore;

impl FolderStore {
    /// Takes the place of a table away, which this store can make anew, or not.
    pub fn lose_place(&self, name: &TableName, can_be_restored: bool) {
        self.change(|state| {
            state.table_mut(name)?.lost_place = Some(can_be_restored);
            Ok(())
        })
        .unwrap();
    }

    pub fn lost_place_of(&self, name: &TableName) -> Option<LostPlace> {
        let state = self.state.lock().unwrap();
        let can_be_restored = state.find(name)?.lost_place?;
        Some(LostPlace {
            replica: "here".to_owned(),
            table: name.clone(),
            place: format!("/{}/replicas/here", name.table),
            can_be_restored,
        })
    }

    /// Makes it anew. Parts get other names by that.
    pub(super) fn restore_place_of(&self, name: &TableName) -> Result<()> {
        self.change(|state| {
            let table = state.table_mut(name)?;
            if table.lost_place.take().is_none() {
                return Ok(());
            }
            let directory = table.directory(&self.root);
            for part in std::mem::take(&mut table.parts) {
                let partition_id = part.split('_').next().unwrap_or_default().to_owned();
                let new = table.new_name(&partition_id);
                std::fs::rename(directory.join(&part), directory.join(&new)).unwrap();
                table.parts.insert(new);
            }
            Ok(())
        })
    }
}
