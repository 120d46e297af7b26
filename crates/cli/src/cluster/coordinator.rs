//! Who the coordinator of a cluster is: `coordinator.json` beside its journal.
//!
//! *Fence*: each process raises the epoch, durably, before it asks an agent anything; agents refuse one that is lower than
//! they have seen. So a process that was stopped and wakes when another has taken its place has nothing done any more.

use std::fs;
use std::path::Path;

use mendb_service::{Coordinator, env};

use crate::failure::{Failure, FailureKind};
use crate::target::{is_absent, replace_file};

const FILE: &str = "coordinator.json";

/// The coordinator whose journal is in a directory, in a new process of it on a host. Who calls has the lock of the
/// directory.
///
/// # Errors
/// The file cannot be read or written, or is none.
pub fn raised(directory: &Path, host: Option<String>) -> Result<Coordinator, Failure> {
    let path = directory.join(FILE);
    let coordinator = match fs::read(&path) {
        Err(error) if is_absent(&error) => Coordinator {
            id: env::random_id(),
            epoch: 1,
            name: String::new(),
        },
        Err(error) => {
            return Err(Failure::io(
                format!("cannot read {}", path.display()),
                &error,
            ));
        }
        Ok(text) => {
            let known: Coordinator = serde_json::from_slice(&text).map_err(|error| {
                Failure::of(FailureKind::FixEnvironment, &error)
                    .context(format!("{} cannot be read", path.display()))
                    .hint(
                        "bring it back from a copy; where there is none, remove it, and start each agent once with \
                         --new-coordinator",
                    )
            })?;
            Coordinator {
                epoch: known.epoch + 1,
                ..known
            }
        }
    };
    let host = host.unwrap_or_else(|| "a host without a name".to_owned());
    let cluster = directory.file_name().unwrap_or_default().to_string_lossy();
    let coordinator = Coordinator {
        name: format!("{host}/{cluster}"),
        ..coordinator
    };
    replace_file(directory, FILE, &coordinator)
        .map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))?;
    Ok(coordinator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_higher_epoch_and_all_have_one_id() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| raised(directory.path(), None).unwrap());
        assert_eq!(first.id, second.id);
        assert_eq!((first.epoch, second.epoch), (1, 2));
        fs::write(directory.path().join(FILE), "{").unwrap();
        let failure = raised(directory.path(), None).unwrap_err();
        assert!(
            failure.to_string().contains("--new-coordinator"),
            "{failure}"
        );
    }
}
